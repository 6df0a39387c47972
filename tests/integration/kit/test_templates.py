"""What `hyperctl plugin new` writes installs, passes its own tests and runs through a real daemon, unchanged."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hypersdk.client import Client
from hypersdk.templates import KINDS
from support.daemon import Daemon
from support.projects import build_wheel, environment_with, write_plugin


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("projects")
    return {kind: write_plugin(folder, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def wheels(projects, tmp_path_factory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("wheels")
    return {kind: build_wheel(project, out) for kind, project in projects.items()}


@pytest.fixture(scope="module")
def daemon(wheels, tmp_path_factory):
    """One daemon that every kind is installed into, through the API."""
    made = Daemon(tmp_path_factory.mktemp("daemon"))
    try:
        made.start()
        for wheel in wheels.values():
            made.hyperctl("plugin", "install", wheel)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def client(daemon):
    with Client(f"unix:{daemon.state}/hypersdkd.sock") as client:
        yield client


def test_every_kind_installs_and_passes_its_own_tests(projects, wheels, tmp_path):
    python = environment_with(tmp_path / "venv", list(wheels.values()))
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", "/",
         "-c", "/dev/null", *(project / "tests" for project in projects.values())],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_active_and_healthy_in_a_daemon(daemon, kind):
    assert "ACTIVE" in daemon.hyperctl("plugin", "generations", f"{kind}-acme").stdout


def test_the_provider_lists_and_exports_what_the_format_writes_and_the_task_counts(daemon, client, tmp_path):
    """One chain through four of the kinds: provider → export in the new format → storage → task."""
    (tmp_path / "machines" / "web").mkdir(parents=True)
    (tmp_path / "machines" / "web" / "disk-0.raw").write_bytes(b"boot" + bytes(1_000_000) + b"end!")
    (tmp_path / "objects").mkdir()
    for name, component, path in (("lab", "provider", "machines"), ("backups", "storage", "objects")):
        daemon.hyperctl(
            "connection", "create", name, "-c", f"{component}/acme", "--config", f"path={tmp_path / path}"
        )
        daemon.hyperctl("connection", "test", name)
    assert "lab/machines/web" in daemon.hyperctl("machine", "list", "lab", "-o", "name").stdout
    daemon.hyperctl("export", "lab/web", "--to", "backups", "--format", "acme", "--prefix", "nightly")
    job = client.jobs.create("acme", {"storage": "connections/backups", "prefix": "nightly/"}).name
    done = client.jobs.wait(job, timeout_s=60)
    assert done.result["objects"] == 2
    assert "acme" in daemon.hyperctl("storage", "ls", "backups/nightly/", "-o", "name").stdout


def test_the_price_table_estimates(daemon):
    assert "prices/acme" in daemon.hyperctl("price", "list", "-o", "json").stdout


def test_the_secrets_open_another_connection(daemon, tmp_path):
    vault = tmp_path / "secrets.json"
    vault.touch(mode=0o600)
    vault.write_text('{"lab/key": "planted"}')
    daemon.hyperctl("connection", "create", "vault1", "-c", "secrets/acme", "--config", f"folder={tmp_path}")
    assert "ok: true" in daemon.hyperctl("connection", "test", "vault1", "-o", "yaml").stdout


def test_the_service_beats(daemon, tmp_path):
    path = tmp_path / "beat.json"
    daemon.hyperctl("connection", "create", "beat", "-c", "service/acme", "--config", f"folder={tmp_path}")
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, daemon.log[-3000:]
        time.sleep(0.05)


def test_the_notifier_is_told_of_events(daemon, tmp_path):
    path = tmp_path / "events.jsonl"
    daemon.hyperctl("connection", "create", "log", "-c", "notifier/acme", "--config", f"folder={tmp_path}")
    daemon.hyperctl("connection", "test", "log")
    daemon.hyperctl("subscription", "create", "ops", "--connection", "log")
    daemon.hyperctl("subscription", "test", "ops")
    assert '"type": "notification.test"' in path.read_text()
