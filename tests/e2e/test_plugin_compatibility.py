"""A plugin built against the previous minor of the API runs on today's kernel; one of a later minor is refused.

tests/data/plugin-api-1.0 is frozen: it knows nothing that came after 1.0.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypersdk.client import Client
from hypersdk.plugin import API_VERSION
from support.daemon import Daemon
from support.projects import build_wheel

FROZEN = Path(__file__).parents[1] / "data" / "plugin-api-1.0"
DIGEST = "b008272c29518b5ae495ba1c8dcf8c8f7e0e518803a8a174b570a94ff71661de"


def digest() -> str:
    found = hashlib.sha256()
    for path in sorted(p for p in FROZEN.rglob("*") if p.is_file() and p.suffix != ".pyc" and p.name != "README.md"):
        found.update(f"{path.relative_to(FROZEN)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def wheel_of(folder: Path, api_version: str, version: str) -> Path:
    project = folder / f"project-{version}"
    shutil.copytree(FROZEN, project)
    manifest = project / "src" / "hypersdk_frozen" / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "api_version": api_version}))
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('"1.0.0"', f'"{version}"'))
    return build_wheel(project, folder)


def test_the_frozen_plugin_is_frozen():
    assert digest() == DIGEST, "tests/data/plugin-api-1.0 must not change: it stands for plugins that are out there"
    assert json.loads((FROZEN / "src" / "hypersdk_frozen" / "manifest.json").read_text())["api_version"] == "1.0"
    assert API_VERSION > (1, 0), "there is no later minor than the frozen one: this test proves nothing"


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """API 1.0 had no `filesystem` in the manifest, without which the host of an installed plugin is kept from the
    machine's files: an operator who runs such a plugin switches that off (docs/plugins/versioning.md)."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    config = folder / "hypersdkd.toml"
    config.write_text('sandbox = "off"\n')
    made = Daemon(folder, "--config", str(config))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.mark.skipif(API_VERSION[0] != 1, reason="the frozen plugin is of API 1")
def test_a_plugin_of_the_previous_minor_runs_and_a_later_one_is_refused(daemon, tmp_path):
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "exports%2Fa").write_bytes(b"first")
    (tmp_path / "from" / "exports%2Fb").write_bytes(b"second")
    daemon.hyperctl("plugin", "install", wheel_of(tmp_path, "1.0", "1.0.0"))
    for name in ("from", "to"):
        daemon.hyperctl("connection", "create", name, "-c", "storage/frozen", "--config", f"path={tmp_path / name}")
        daemon.hyperctl("connection", "test", name)
    assert "exports/a" in daemon.hyperctl("storage", "ls", "from/exports/", "-o", "name").stdout
    with Client(f"unix:{daemon.state}/hypersdkd.sock") as client:
        spec = {"source": "connections/from", "target": "connections/to", "prefix": "exports/"}
        done = client.jobs.wait(client.jobs.create("frozen-copy", spec).name, timeout_s=60)
        assert list(done.result["copied"]) == ["exports/a", "exports/b"]
    assert (tmp_path / "to" / "exports%2Fb").read_bytes() == b"second"

    later = f"{API_VERSION[0]}.{API_VERSION[1] + 1}"
    for number, version in enumerate((later, f"{API_VERSION[0] + 1}.0"), 1):
        refused = daemon.hyperctl("plugin", "install", wheel_of(tmp_path, version, f"1.0.{number}"), check=False)
        assert refused.returncode != 0
        assert "API_VERSION_UNSUPPORTED" in refused.stderr
    assert "exports/a" in daemon.hyperctl("storage", "ls", "from/exports/", "-o", "name").stdout
