"""02-plugin-in-node: a plugin in JavaScript, built as its author would, in a real daemon, as its users meet it."""

import json
import os
import random
import shutil
import signal
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypersdk.api.jobs.v1.jobs_pb2 import JobState
from hypersdk.api.pricing.v1.pricing_pb2 import PriceDimension, Usage
from hypersdk.client import Client
from hypersdk.errors import FailedPrecondition, InvalidArgument, NotFound
from hypersdk.plugin.priceadding import add_up
from hypersdk.plugin.pricing import PriceRow, QuoteRequest, plain
from hypersdk.testing import conformance
from support.daemon import Daemon
from support.images import MIB, same, scattered
from support.projects import build_wheel

PROJECT = Path(__file__).parents[2] / "examples" / "02-plugin-in-node"
SUCCEEDED, FAILED = JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED
pytestmark = pytest.mark.peer


@pytest.fixture(scope="module", autouse=True)
def _node():
    if shutil.which("node") is None:
        pytest.skip("Node is missing: apt-get install nodejs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(PROJECT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def daemon(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder, "--probation-s", "1")
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def client(daemon, wheel):
    with Client(f"unix:{daemon.state / 'hypersdkd.sock'}") as found:
        found.plugins.install(str(wheel))
        yield found


@pytest.mark.parametrize("packed", [False, True], ids=["source", "wheel"])
def test_it_passes_the_conformance_checks_that_every_plugin_passes(packed, request):
    report = conformance.run(request.getfixturevalue("wheel") if packed else PROJECT)
    assert [o for o in report.outcomes if o.status.name in {"FAILED", "WARNED"}] == []
    assert sum(o.status.name == "PASSED" for o in report.outcomes) > 40


def test_it_quotes_what_the_contracts_own_arithmetic_makes_of_its_rows(client):
    rows = [
        PriceRow(
            row.sku, row.region, row.storage_class, _dimension(row), row.unit,
            Decimal(row.price), row.currency_code, date.fromisoformat(row.effective_date), row.source,
            volume_from=Decimal(row.volume_from), volume_to=Decimal(row.volume_to) if row.volume_to else None,
            minimum_days=row.minimum_days,
        )
        for row in client.pricing.list("prices/acme-node", page_size=3)
    ]  # fmt: skip
    assert len(rows) == 8
    rng = random.Random(11)
    for _ in range(50):
        usage = {
            "stored_bytes": rng.choice([0, 1, 10**9, rng.randrange(10**15)]), "egress_bytes": rng.randrange(10**12),
            "put_requests": rng.randrange(10**7), "get_requests": rng.randrange(10**9),
            "retrieval_bytes": rng.randrange(10**12),
        }  # fmt: skip
        months = f"{rng.randrange(24)}.{rng.randrange(10**6):06d}"
        for storage_class in ("standard", "vault"):
            told = client.pricing.estimate("prices/acme-node", storage_class, Usage(months=months, **usage))
            quote = add_up(rows, QuoteRequest(storage_class, months=Decimal(months), **usage), "moon-1")
            assert abs(Decimal(told.total) - quote.total) < Decimal("1e-20")
            assert [(line.sku, line.description) for line in told.lines] == [
                (line.sku, line.description) for line in quote.lines
            ]
            assert list(told.warnings) == list(quote.warnings)
            if storage_class == "standard":
                assert told.total == plain(quote.total)
    with pytest.raises(InvalidArgument) as caught:
        client.pricing.estimate("prices/acme-node", "none", Usage(months="1", stored_bytes=1))
    assert caught.value.reason == "PRICE_CLASS_UNKNOWN"


def test_its_host_is_restarted_when_it_is_killed(client, daemon, wheel):
    assert client.pricing.get_table("prices/acme-node").currency_code == "USD"
    for _ in range(2):
        (pid,) = _nodes(daemon)
        os.kill(pid, signal.SIGKILL)
        assert client.pricing.get_table("prices/acme-node").currency_code == "USD"
    client.plugins.activate("plugins/acme-node", generation=1)
    assert client.pricing.get_table("prices/acme-node").currency_code == "USD"


def test_its_disks_are_exported_byte_by_byte_and_nothing_is_left_running(client, daemon, tmp_path):
    platform, target = tmp_path / "platform", tmp_path / "target"
    platform.mkdir()
    target.mkdir()
    sha256 = scattered(platform / "web01.raw", 64 * MIB + 512, 12)
    client.connections.create("pictures", "provider/acme-images", {"path": str(platform)})
    client.connections.create("target", "storage/local", {"path": str(target)})
    (machine,) = client.inventory.list_machines("connections/pictures")
    assert machine.disks[0].size_bytes == 64 * MIB + 512
    spec = {"machine": machine.name, "target": "connections/target", "format": "qcow2"}
    name = client.jobs.create("export", spec).name
    job = client.jobs.wait(name)
    assert job.state == SUCCEEDED, (job.error, daemon.log[-3000:])
    manifest = json.loads((target / job.result["manifest"]).read_text())
    (disk,) = manifest["files"]
    assert disk["content"]["sha256"] == sha256
    same(platform / "web01.raw", target / disk["key"])
    _until_none_is_left(daemon)
    assert list(daemon.state.glob("runs/*/attempts/*/hosts/*/*")) == []
    with pytest.raises(NotFound):
        client.inventory.get_machine("connections/pictures/machines/none")


def test_a_disk_that_changes_while_it_is_copied_is_noticed_through_the_stand_in(client, daemon, tmp_path):
    platform, target = tmp_path / "platform", tmp_path / "target"
    platform.mkdir()
    target.mkdir()
    scattered(platform / "web01.raw", 64 * MIB, 32)
    client.connections.create("pictures", "provider/acme-images", {"path": str(platform)})
    client.connections.create("target", "storage/local", {"path": str(target)})
    spec = {
        "machine": "connections/pictures/machines/web01", "target": "connections/target", "format": "raw"
    }  # fmt: skip
    name = client.jobs.create("export", spec, bandwidth_limit_bytes=16 * MIB, max_attempts=1).name
    while not client.jobs.get(name).progress.bytes_read:
        time.sleep(0.02)
    with (platform / "web01.raw").open("r+b") as file:
        file.write(b"changed")
    job = client.jobs.wait(name)
    assert job.state == FAILED
    assert "changed while it was copied" in str(job.error)


def test_where_node_is_not_allowed_the_plugin_is_refused_with_the_reason(tmp_path, wheel):
    folder = tmp_path / "daemon"
    folder.mkdir()
    daemon = Daemon(folder, "--host-interpreters", "deno")
    try:
        daemon.start()
        with Client(f"unix:{daemon.state / 'hypersdkd.sock'}") as client:
            with pytest.raises(FailedPrecondition, match="host_interpreters"):
                client.plugins.install(str(wheel))
            assert not [p for p in client.plugins.list() if p.name == "plugins/acme-node" and p.active_generation.name]
    finally:
        daemon.close()


def _dimension(row):
    return PriceDimension.Name(row.dimension).removeprefix("PRICE_DIMENSION_").lower()


def _until_none_is_left(daemon):
    """The outcome is told before the runner has closed its connections."""
    deadline = time.monotonic() + 30
    while daemon.runners() or _nodes(daemon, inside="runs"):
        assert time.monotonic() < deadline, "a host or a runner is left"
        time.sleep(0.05)


def _nodes(daemon, inside=""):
    """Processes of this daemon's that run host.mjs; those whose working directory lies in `inside` of its state."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command, where = (entry / "cmdline").read_bytes(), (entry / "cwd").resolve()
            except OSError:
                continue
            mine = str(daemon.state).encode() in command and b"host.mjs" in command
            if mine and (not inside or daemon.state / inside in where.parents):
                found.append(int(entry.name))
    return found


def test_its_frames_and_those_of_a_runner_are_traced(tmp_path, wheel):
    folder, platform, target = tmp_path / "daemon", tmp_path / "platform", tmp_path / "target"
    for made in (folder, platform, target):
        made.mkdir()
    scattered(platform / "web01.raw", 8 * MIB, 2)
    frames = tmp_path / "frames.jsonl"
    daemon = Daemon(folder, f"--trace-frames={frames}")
    try:
        daemon.start()
        with Client(f"unix:{daemon.state / 'hypersdkd.sock'}") as client:
            client.plugins.install(str(wheel))
            client.connections.create("pictures", "provider/acme-images", {"path": str(platform)})
            client.connections.create("target", "storage/local", {"path": str(target)})
            spec = {"machine": "connections/pictures/machines/web01", "target": "connections/target", "format": "raw"}
            name = client.jobs.create("export", spec).name
            assert client.jobs.wait(name).state == SUCCEEDED
    finally:
        daemon.close()
    lines = [json.loads(line) for line in frames.read_text().splitlines()]
    assert {"initialize", "ping", "call"} <= {line.get("method") for line in lines if line["peer"] == "host"}
    assert {"attach", "record"} <= {line.get("method") for line in lines if line.get("job") == name}
    assert any("acme-node" in line.get("generation", "") for line in lines)


def test_a_killed_runner_takes_its_node_along_and_the_next_attempt_has_one_of_its_own(client, daemon, tmp_path):
    platform, target = tmp_path / "platform", tmp_path / "target"
    platform.mkdir()
    target.mkdir()
    sha256 = scattered(platform / "web01.raw", 64 * MIB, 32)
    client.connections.create("pictures", "provider/acme-images", {"path": str(platform)})
    client.connections.create("target", "storage/local", {"path": str(target)})
    spec = {"machine": "connections/pictures/machines/web01", "target": "connections/target", "format": "qcow2"}
    name = client.jobs.create("export", spec, bandwidth_limit_bytes=16 * MIB).name
    while not client.jobs.get(name).progress.bytes_read:
        time.sleep(0.05)
    (node,) = _nodes(daemon, inside="runs")
    (runner,) = daemon.runners()
    os.kill(runner, signal.SIGKILL)
    while node in _nodes(daemon, inside="runs"):
        time.sleep(0.05)
    job = client.jobs.wait(name)
    assert job.state == SUCCEEDED, job.error
    assert job.attempt_count == 2
    (disk,) = json.loads((target / job.result["manifest"]).read_text())["files"]
    assert disk["content"]["sha256"] == sha256
    _until_none_is_left(daemon)
