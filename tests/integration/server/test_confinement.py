"""What hostile and broken plugins can do from a host: blocked where the machine can, and told where it cannot."""

import json
import os
import socket
import time

import pytest
from hypersdk.client import Client
from hypersdk.errors import HyperError
from hypersdk.wire import landlock, seccomp
from support.daemon import Daemon
from support.wheels import make_wheel

HOSTILE = '''
import ctypes, os, signal, socket, subprocess, threading, time
from hypersdk.plugin.image_format import ImageFormat

TRIES = {
    "read": lambda what: open(what).read(20),
    "list": lambda what: os.listdir(what),
    "write": lambda what: open(what, "w").write("x"),
    "signal": lambda pid: os.kill(int(pid), 0),
    "environ": lambda pid: open(f"/proc/{pid}/environ").read(20),
    "listen": lambda port: socket.create_server(("127.0.0.1", int(port))).close(),
    "connect": lambda path: socket.socket(socket.AF_UNIX).connect(path),
    "program": lambda path: subprocess.run([path]),
    "ptrace": lambda pid: (ctypes.CDLL(None, use_errno=True).ptrace(16, int(pid), 0, 0) == 0) or 1 / 0,
    "thread": lambda _: threading.Thread(target=print).start(),
    "leak": lambda size: globals().setdefault("kept", []).append(b"x" * int(size)),
    "spin": lambda _: threading.Thread(target=spin, daemon=True).start(),
    "sleepers": lambda count: [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(int(count))],
    "open": lambda count: globals().setdefault("files", []).extend(open("/dev/null") for _ in range(int(count))),
}


def spin():
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass


class Plugin(ImageFormat):
    name = "hostile"

    def probe(self, head, tail, size):
        return 0

    def open(self, file, options=None):
        raise NotImplementedError

    def create(self, file, size, options=None, resume=None):
        raise NotImplementedError

    def create_options(self):
        out = {}
        with open(os.path.join(os.path.dirname(__file__), "orders.txt")) as orders:
            for number, line in enumerate(orders):
                verb, _, what = line.strip().partition(" ")
                try:
                    TRIES[verb](what)
                    out[f"{number}"] = "done"
                except BaseException as exc:
                    out[f"{number}"] = type(exc).__name__
        return out
'''
NAME = "plugins/format-hostile"


@pytest.fixture
def daemon(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    started = []

    def start(*flags):
        started.append(Daemon(folder, "--probation-s", "0", *flags))
        return started[-1].start()

    yield start
    for made in started:
        made.close()


def connect(daemon):
    client = Client(f"unix:{daemon.state / 'hypersdkd.sock'}")
    client.system.info()
    return client


def hostile(folder, orders, **manifest):
    """A wheel of a plugin that does what it is told when it is asked for its options."""
    body = {
        "manifest_version": 1, "name": "hypersdk-format-hostile", "api_version": "1.0", "summary": "Tries things",
        "components": {"format/hostile": {"concurrency": "parallel", "network": manifest.pop("network", [])}},
    }  # fmt: skip
    return make_wheel(
        folder, distribution="hypersdk-format-hostile", component="hostile", code=HOSTILE, manifest=body | manifest,
        files={"hypersdk_format_hostile/orders.txt": "\n".join(orders) + "\n"},
    )  # fmt: skip


def outcomes(client, orders):
    found = client.formats.get("formats/hostile").create_options
    return {order: found[str(number)] for number, order in enumerate(orders)}


def states(client):
    answer = client.plugins.check_health(NAME)
    return {row.mechanism: row.state for row in answer.host.confinement}


ENFORCED, UNAVAILABLE, OFF = 1, 2, 3


def test_a_hostile_plugin_gets_nowhere_or_health_says_that_the_machine_cannot_stop_it(daemon, tmp_path):
    running = daemon()
    (tmp_path / "private.txt").write_text("somebody else's")
    state, kernel = running.state, running.process.pid
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [f"read {state}/token", f"read {state}/state.db", f"read {tmp_path}/private.txt", "read /etc/passwd",
             f"write {tmp_path}/out.txt", f"list {state}/plugins/store"]  # fmt: skip
    calls = [f"ptrace {kernel}", "program /bin/true", f"connect {state}/hypersdkd.sock", f"listen {port}"]
    others = [f"signal {kernel}", f"environ {kernel}", "thread x"]
    orders = [*files, *calls, *others]
    with connect(running) as client:
        client.plugins.upload(hostile(tmp_path, orders))
        found, told = outcomes(client, orders), states(client)
        assert told["no_new_privs"] == ENFORCED
        if landlock.version():
            assert {found[order] for order in files} == {"PermissionError"}
            assert found[f"environ {kernel}"] == "PermissionError"
            assert told["landlock_files"] == ENFORCED
        else:
            assert told["landlock_files"] == UNAVAILABLE
        if not seccomp.available():
            assert {found[order] for order in calls} <= {"PermissionError", "ZeroDivisionError"}
            assert found[f"signal {kernel}"] == "PermissionError"
            assert (told["seccomp"], told["sockets"], told["signals"], told["no_programs"]) == (ENFORCED,) * 4
        else:
            assert told["seccomp"] == UNAVAILABLE
        assert found["thread x"] == "done"
        assert not (tmp_path / "out.txt").exists()
    shown = json.loads(running.hyperctl("plugin", "health", "format-hostile", "-o", "json").stdout)
    assert {"mechanism", "state", "detail"} == set(shown["host"]["confinement"][0])


def test_a_plugin_gets_what_its_manifest_names_and_never_the_daemons_own_files(daemon, tmp_path):
    running = daemon()
    if not landlock.version():
        pytest.skip("this kernel has no Landlock; run on 5.13 or later with it in the lsm list")
    (tmp_path / "data.txt").write_text("for everybody")
    orders = [f"read {tmp_path}/data.txt", "read /etc/passwd", f"write {tmp_path}/out.txt",
              f"read {running.state}/token", f"connect {running.state}/hypersdkd.sock",
              "program /bin/true"]  # fmt: skip
    with connect(running) as client:
        client.plugins.upload(
            hostile(tmp_path, orders, filesystem=["any:read"], limits={"processes": 2}, network=["unix"])
        )
        found = list(outcomes(client, orders).values())
    assert found == ["done", "done", "PermissionError", "PermissionError", "done", "done"], (
        "with `unix` in its network it reaches every unix socket; docs/plugins/security.md says so"
    )


def test_without_the_sandbox_nothing_is_blocked_and_health_says_so(daemon, tmp_path):
    running = daemon("--sandbox", "off")
    orders = [f"read {running.state}/token", f"signal {running.process.pid}"]
    with connect(running) as client:
        client.plugins.upload(hostile(tmp_path, orders))
        assert set(outcomes(client, orders).values()) == {"done"}
        told = states(client)
        assert (told["seccomp"], told["landlock_files"]) == (OFF, OFF)


def wait_for_end(client, words, timeout_s=30.0):
    """Until the host has been ended for a reason with these words."""
    deadline = time.monotonic() + timeout_s
    while words not in (last := client.plugins.get(NAME).active_generation.host.last_error):
        assert time.monotonic() < deadline, last
        time.sleep(0.1)


def test_a_host_that_leaks_memory_is_ended_with_the_reason_and_comes_back(daemon, tmp_path):
    running = daemon()
    with connect(running) as client:
        client.plugins.upload(hostile(tmp_path, [f"leak {200 << 20}"], limits={"memory_bytes": 64 << 20}))
        client.formats.get("formats/hostile")
        wait_for_end(client, "its limit is 64")
        assert client.formats.get("formats/raw").name == "formats/raw"


def test_a_leak_that_is_faster_than_the_watch_fails_in_the_plugin(daemon, tmp_path):
    running = daemon()
    orders = [f"leak {8 << 30}"]
    with connect(running) as client:
        client.plugins.upload(hostile(tmp_path, orders, limits={"memory_bytes": 64 << 20}))
        assert outcomes(client, orders)[orders[0]] == "MemoryError"


def test_programs_above_the_limit_end_with_the_host_that_started_them(daemon, tmp_path):
    running = daemon()
    with connect(running) as client:
        client.plugins.upload(
            hostile(tmp_path, ["sleepers 12"], filesystem=["any:read"], limits={"processes": 4})
        )
        client.formats.get("formats/hostile")
        pid = client.plugins.get(NAME).active_generation.host.pid
        children = [p for p in os.listdir("/proc") if p.isdigit() and parent_of(p) == pid]
        wait_for_end(client, "its limit is 4")
        assert [p for p in children if parent_of(p) is not None and is_sleep(p)] == []


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else int(fields[1])


def is_sleep(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"sleep" in file.read()
    except OSError:
        return False


def test_descriptors_are_limited(daemon, tmp_path):
    running = daemon()
    orders = ["open 500"]
    with connect(running) as client:
        client.plugins.upload(hostile(tmp_path, orders, limits={"open_files": 300}))
        assert outcomes(client, orders)[orders[0]] == "OSError"


def test_a_manifest_asks_in_vain_for_more_than_the_settings_allow(daemon, tmp_path):
    running = daemon("--host-memory-bytes", str(128 << 20), "--host-processes", "1")
    with connect(running) as client:
        client.plugins.upload(hostile(tmp_path, [], limits={"memory_bytes": 1 << 35, "processes": 50}))
        answer = client.plugins.check_health(NAME)
        told = {row.mechanism: row.detail for row in answer.host.confinement}
        assert (told["limit_memory"], told["limit_processes"]) == ("128 MiB resident", "1")


@pytest.mark.parametrize(
    "wrong",
    [{"limits": {"memory_bytes": 1}}, {"limits": {"cpu": 1}}, {"limits": []}, {"limits": {"processes": True}},
     {"limits": {"cpu_share": "all"}}, {"filesystem": "any"}, {"filesystem": ["everything"]},
     {"filesystem": ["path:relative"]}],
)  # fmt: skip
def test_a_manifest_with_limits_or_needs_that_are_none_is_refused(wrong):
    from hypersdk.plugin.manifest import Manifest

    body = {"manifest_version": 1, "name": "x", "api_version": "1.0", "components": {"format/x": {}}} | wrong
    with pytest.raises(HyperError) as caught:
        Manifest.parse(json.dumps(body))
    assert caught.value.reason == "MANIFEST_INVALID"
