"""Installing, swapping and watching plugins through the daemon's face, as client and command line see it."""

import contextlib
import json
import threading
import time
import uuid

import grpc
import pytest
from hypersdk.api.formats.v1 import formats_pb2, formats_pb2_grpc
from hypersdk.client import Client
from hypersdk.errors import AlreadyExists, FailedPrecondition, HyperError, InvalidArgument, NotFound
from integration.server.conftest import details_of
from support.daemon import Daemon
from support.sourcetrees import make_tree
from support.swapping import waiting_wheel
from support.wheels import FORMAT_CODE, make_wheel

NAME = "plugins/format-swapped"


@pytest.fixture
def swapper(tmp_path):
    """A daemon, whose client is `client` as long as it is not restarted."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder, "--probation-s", "1")
    try:
        yield made.start()
    finally:
        made.close()


def connect(daemon):
    return Client(f"unix:{daemon.state / 'hypersdkd.sock'}")


def version(client):
    return client.formats.get("formats/swapped").create_options["version"]


def test_versions_come_and_go_through_the_api_and_outlive_the_daemon(swapper, tmp_path):
    with connect(swapper) as client:
        client.plugins.install(str(make_wheel(tmp_path, "1.0")))
        assert version(client) == "1.0"
        client.plugins.upload(make_wheel(tmp_path, "2.0"))
        assert version(client) == "2.0"
        assert client.plugins.rollback(NAME).active_generation.version == "1.0"
        assert version(client) == "1.0"
        client.plugins.activate(NAME, version="2.0")
        assert version(client) == "2.0"
        client.plugins.activate(NAME, generation=1)
        checked = client.plugins.activate(NAME, generation=2, validate_only=True)
        assert checked.active_generation.version == "1.0"
        with pytest.raises(NotFound) as unknown:
            client.plugins.activate(NAME, version="9.9")
        assert unknown.value.reason == "GENERATION_NOT_FOUND"
    swapper.kill()
    swapper.start()
    with connect(swapper) as client:
        assert version(client) == "1.0"
        client.plugins.uninstall(NAME)
        with pytest.raises(NotFound):
            client.plugins.get(NAME)


def test_a_repeated_upload_is_answered_and_not_installed_again(swapper, tmp_path):
    request_id = str(uuid.uuid4())
    first, second = (make_wheel(tmp_path, number) for number in ("1.0", "2.0"))
    with connect(swapper) as client:
        client.plugins.upload(first, request_id=request_id)
        client.plugins.upload(second)
        assert client.plugins.upload(first, request_id=request_id).active_generation.version == "2.0"
        assert version(client) == "2.0"
        again = make_wheel(tmp_path, "1.0", code=FORMAT_CODE + "# another file of that name")
        with pytest.raises(AlreadyExists) as reused:
            client.plugins.upload(again, request_id=request_id)
    assert reused.value.reason == "REQUEST_ID_REUSED"


def test_what_is_wrong_with_a_request_or_a_wheel_is_said(swapper, tmp_path):
    with connect(swapper) as client:
        with pytest.raises(InvalidArgument):
            client.plugins.install("relative.whl")
        with pytest.raises(InvalidArgument):
            client.plugins.install("")
        with pytest.raises(HyperError) as missing:
            client.plugins.install(str(tmp_path / "hypersdk_none-1.0-py3-none-any.whl"))
        assert missing.value.kind == "NotFound"
        with pytest.raises(InvalidArgument) as invalid:
            client.plugins.upload(make_wheel(tmp_path, "1.0", files={"../out.py": ""}))
        assert invalid.value.reason == "WHEEL_INVALID"
        with pytest.raises(FailedPrecondition) as nowhere:
            client.plugins.install(requirement="some-plugin")
        assert nowhere.value.reason == "NO_PLUGIN_SOURCE"
        with pytest.raises(FailedPrecondition) as bundled:
            client.plugins.uninstall("plugins/format-raw")
        assert bundled.value.reason == "PLUGIN_BUNDLED"
        with pytest.raises(NotFound):
            client.plugins.get(NAME)
        unchanged = client.plugins.reload("plugins/format-raw")
        assert len(unchanged.generations) == 1


def test_a_watch_tells_the_present_and_then_each_change(swapper, tmp_path):
    with connect(swapper) as client:
        wheel = make_wheel(tmp_path, "1.0")
        seen = []
        timer = threading.Timer(0.3, lambda: client.plugins.install(str(wheel)))
        timer.start()
        for change in client.plugins.watch(timeout_s=20):
            seen.append((change.type, change.generation))
            if change.type == "plugin.activated":
                break
        timer.join()
        assert ("", "") in seen
        generation = f"{NAME}/generations/1"
        assert seen[-2:] == [("plugin.installed", generation), ("plugin.activated", generation)]


def test_the_command_line_shows_what_it_did(swapper, tmp_path):
    swapper.hyperctl("plugin", "install", make_wheel(tmp_path, "1.0"))
    table = swapper.hyperctl("plugin", "install", make_wheel(tmp_path, "2.0")).stdout
    assert table.splitlines()[0].split() == [
        "GENERATION", "VERSION", "DIGEST", "STATE", "SINCE", "HOST", "JOBS", "CALLS", "ERRORS", "RESTARTS", "REASON",
    ]  # fmt: skip
    assert "format-swapped/generations/2" in table
    assert "ACTIVE" in table
    swapper.hyperctl("plugin", "rollback", "format-swapped")
    swapper.hyperctl("plugin", "activate", "format-swapped", "#2")
    shown = json.loads(swapper.hyperctl("plugin", "get", "format-swapped", "-o", "json").stdout)
    assert shown["active_generation"]["version"] == "2.0"
    assert swapper.hyperctl("plugin", "gc", "--dry-run", "-o", "json").stdout.strip()
    assert "1.0" in swapper.hyperctl("plugin", "generations", "format-swapped").stdout
    swapper.hyperctl("plugin", "uninstall", "format-swapped")
    assert swapper.hyperctl("plugin", "get", "format-swapped", check=False).returncode != 0


def test_a_wheel_dropped_into_plugins_d_serves_and_a_restart_respects_the_operator(swapper, tmp_path):
    dropped = swapper.state / "plugins.d"
    with connect(swapper) as client:
        for number in ("1.0", "2.0"):
            wheel = make_wheel(tmp_path, number)
            (dropped / "half").write_bytes(wheel.read_bytes())
            (dropped / "half").rename(dropped / wheel.name)
            for change in client.plugins.watch(timeout_s=20):
                if change.plugin.name == NAME and change.plugin.active_generation.version == number:
                    break
        client.plugins.rollback(NAME)
        assert version(client) == "1.0"
    swapper.kill()
    swapper.start()
    with connect(swapper) as client:
        deadline = time.monotonic() + 20
        while swapper.log.count("dropped_wheel_installed") < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert version(client) == "1.0"


def test_a_canary_gets_its_share_of_calls_until_it_is_promoted_or_withdrawn(swapper, tmp_path):
    with connect(swapper) as client:
        client.plugins.upload(make_wheel(tmp_path, "1.0"))
        client.plugins.upload(make_wheel(tmp_path, "2.0"), install_only=True)
        started = client.plugins.activate(NAME, version="2.0", canary_percent=25)
        assert started.active_generation.version == "1.0"
        assert [(g.version, g.canary_percent) for g in started.generations] == [("1.0", 0), ("2.0", 25)]
        assert [version(client) for _ in range(8)] == ["1.0", "1.0", "1.0", "2.0"] * 2
        assert "ACTIVE, CANARY 2.0 25%" in swapper.hyperctl("plugin", "list").stdout
        assert "CANARY 25%" in swapper.hyperctl("plugin", "generations", "format-swapped").stdout
        with pytest.raises(InvalidArgument):
            client.plugins.activate(NAME, version="2.0", canary_percent=100)
        client.plugins.rollback(NAME)
        assert {version(client) for _ in range(8)} == {"1.0"}
        shown = swapper.hyperctl("plugin", "activate", "format-swapped", "2.0", "--canary", "50").stdout
        assert "CANARY 50%" in shown
        client.plugins.activate(NAME, version="2.0")
        assert {version(client) for _ in range(8)} == {"2.0"}


def test_jobs_are_shared_with_a_canary_and_counted_while_they_hold_their_builds(swapper, tmp_path):
    plugin, until_ = "plugins/task-wait", tmp_path / "go"
    with connect(swapper) as client:
        for number, install_only in (("1.0", False), ("2.0", True)):
            client.plugins.upload(waiting_wheel(tmp_path, number), install_only=install_only)
        client.plugins.activate(plugin, version="2.0", canary_percent=50)
        jobs = []
        for _ in range(4):  # one after the other: pins are made at the first dispatch
            jobs.append(client.jobs.create("wait", {"until": str(until_)}).name)
            until(lambda: client.jobs.get(jobs[-1]).pins)
        assert [client.jobs.get(job).pins[0].version for job in jobs] == ["1.0", "2.0"] * 2

        def held():
            return {g.version: g.pinned_job_count for g in client.plugins.get(plugin).generations}

        assert held() == {"1.0": 2, "2.0": 2}
        client.plugins.rollback(plugin)
        until_.touch()
        assert [client.jobs.wait(job, timeout_s=30).result["version"] for job in jobs] == ["1.0", "2.0"] * 2
        assert held() == {"1.0": 0, "2.0": 0}


def test_a_quarantined_host_is_let_out_by_reset(swapper, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    harm = f"import os\n        if os.path.exists({str(broken)!r}):\n            os._exit(3)\n        return {{"
    with connect(swapper) as client, swapper_channel(swapper) as stub:

        def refusal():
            """Without the client's own retries."""
            try:
                stub.GetFormat(formats_pb2.GetFormatRequest(name="formats/swapped"), timeout=10)
            except grpc.RpcError as exc:
                return details_of(exc)["reason"]
            return ""

        client.plugins.upload(make_wheel(tmp_path, "1.0", code=FORMAT_CODE.replace("return {", harm)))
        until(lambda: refusal() == "HOST_QUARANTINED")
        assert "QUARANTINED" in swapper.hyperctl("plugin", "generations", "format-swapped").stdout
        broken.unlink()
        client.plugins.reset(NAME, validate_only=True)
        assert refusal() == "HOST_QUARANTINED"
        swapper.hyperctl("plugin", "reset", "format-swapped")
        assert version(client) == "1.0"


@contextlib.contextmanager
def swapper_channel(daemon):
    with grpc.insecure_channel(f"unix:{daemon.state / 'hypersdkd.sock'}") as channel:
        yield formats_pb2_grpc.FormatServiceStub(channel)


def test_a_source_folder_is_served_without_being_installed_and_reloaded_when_it_is_saved(tmp_path):
    module = make_tree(tmp_path / "tree", "1.0")
    (tmp_path / "daemon").mkdir()
    developer = Daemon(tmp_path / "daemon", "--plugin-paths", str(tmp_path / "tree"), "--reload-editable")
    try:
        developer.start()
        with connect(developer) as client:
            assert client.plugins.get(NAME).active_generation.origin == "editable"
            assert version(client) == "1.0"
            sound = module.read_text()
            module.write_text(sound.replace('"1.0"', '"edited"'))
            until(lambda: version(client) == "edited")
            module.write_text("raise RuntimeError('half an edit')")
            until(lambda: "half an edit" in client.plugins.get(NAME).generations[-1].failure_message)
            assert version(client) == "edited"
            module.write_text(sound)
            until(lambda: version(client) == "1.0")
    finally:
        developer.close()


def until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
