"""ForeignProvider: a provider in another process, whatever that process answers."""

import json
import sys
import textwrap
from dataclasses import replace

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.errors import HyperError, Internal, NotFound, Unavailable, Unsupported
from hypersdk.runner import spec as runner_spec
from hypersdk.runner.components import Components
from hypersdk.runner.foreign import ForeignProvider
from hypersdk.runner.foreign_machine import machine_of
from hypersdk.runner.log import AttemptLog
from hypersdk.runner.spec import ComponentSpec
from hypersdk.wire.redact import Redactor
from hypothesis import given
from hypothesis import strategies as st
from support.nbdserver import NbdServer

HOST = """
import json, socket, struct, sys, os
ANSWERS = json.loads(sys.argv[1])
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
file = sock.makefile("rb")
seen = open("../calls.jsonl", "a", buffering=1)
def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sock.sendall(struct.pack(">I", len(body)) + body)
while head := file.read(4):
    message = json.loads(file.read(struct.unpack(">I", head)[0]))
    method, params = message["method"], message.get("params", {})
    if method == "call":
        method = params["method"]
        seen.write(json.dumps(params) + "\\n")
    if method == "Die":
        os._exit(3)
    result = ANSWERS.get(method, {})
    if method == "initialize" and method not in ANSWERS:
        result = {"protocol": 1, "api_version": "1.1", "components": list(params["components"]), "pid": os.getpid()}
    answer = {"error": result["error"]} if isinstance(result, dict) and "error" in result else {"result": result}
    send({"id": message["id"], **answer})
    if method == "shutdown":
        break
"""


class Context:
    def __init__(self):
        self.held = []

    def acquired(self, resource_id, component, record):
        self.held.append((resource_id, component, dict(record)))

    def released(self, resource_id):
        self.held.append(resource_id)


@pytest.fixture
def make(tmp_path):
    made = []

    def provider(answers, words=None):

        script = tmp_path / "host.py"
        script.write_text(textwrap.dedent(HOST))
        words = words or (sys.executable, str(script), json.dumps(answers))
        component = ComponentSpec("acme", (), {}, words, {"name": "acme"}, "plugins/acme/generations/1")
        log = AttemptLog(tmp_path / "log.jsonl", Redactor(["hunter2"]))
        found = ForeignProvider("connections/lab", "provider/acme", component, tmp_path / "hosts", log)
        found.configure({"path": "/x"}, {"password": "hunter2"})
        made.append(found)
        return found

    yield provider
    for each in made:
        each.close()


DISK = {
    "name": "connections/lab/machines/web01/disks/disk-0",
    "size_bytes": "4096",
    "details": {"content_version": "1"},
}
MACHINE = {"name": "connections/lab/machines/web01", "power_state": "POWER_STATE_OFF", "disks": [DISK]}


def test_machines_come_as_the_contract_has_them(make):
    provider = make({"ListMachines": {"machines": [MACHINE], "next_page_token": "t"}, "GetMachine": MACHINE,
                     "Health": {"ok": True, "message": "well"}})  # fmt: skip
    assert provider.health().ok
    page = provider.machines(10, "")
    assert page.next_token == "t"
    assert page.items[0] == provider.machine("web01")
    assert page.items[0].disks[0].size_bytes == 4096
    assert page.items[0].power_state == "off"


def test_a_disk_is_read_from_the_socket_in_the_hosts_own_folder_and_closed_there(make, tmp_path):
    told = {
        "nbd": {"socket": "nbd", "export": "disk", "bitmap": None},
        "resource": {"id": "snap-1", "record": {"snapshot": 7}},
    }
    provider = make({"OpenDisk": told, "Health": {"ok": True}})
    provider.health()
    (folder,) = (p for p in (tmp_path / "hosts").iterdir() if p.is_dir())
    assert folder.stat().st_mode & 0o777 == 0o700
    context = Context()
    with NbdServer(folder, bytearray(b"x" * 4096)):
        with provider.open_source("web01", "disk-0", context) as source:
            buffer = bytearray(4096)
            source.readinto(0, memoryview(buffer))
            assert buffer == b"x" * 4096
            record = {"snapshot": 7, "connection": "connections/lab"}
            assert context.held == [("snap-1", "provider/acme", record)]
        assert context.held[-1] == "snap-1"
    calls = (tmp_path / "hosts" / "calls.jsonl").read_text()
    assert '"CloseDisk"' in calls
    assert '"name": "connections/lab/machines/web01/disks/disk-0"' in calls


@pytest.mark.parametrize("full", [True, False])
def test_changes_are_those_of_the_bitmap_that_the_host_names(make, tmp_path, full):
    told = {"nbd": {"socket": "nbd", "export": "disk", "bitmap": None if full else "b0"},
            "changes": {"full": full, "token": "t2", "reason": "first" if full else ""}}  # fmt: skip
    provider = make({"OpenDisk": told, "Health": {"ok": True}})
    provider.health()
    (folder,) = (p for p in (tmp_path / "hosts").iterdir() if p.is_dir())
    statuses = {"base:allocation": [(4096, 0)], "qemu:dirty-bitmap:b0": [(512, 1), (3584, 0)]}
    with NbdServer(folder, bytearray(4096), statuses=statuses):
        found = provider.changes("web01", "disk-0", "t1", Context())
        assert (found.full, found.token) == (full, "t2")
        assert [tuple(e) for e in found.extents] == [(0, 4096 if full else 512, ExtentKind.DATA)]
    assert '"since": "t1"' in (tmp_path / "hosts" / "calls.jsonl").read_text()


@pytest.mark.parametrize(
    "nbd",
    [None, {}, {"socket": 7}, {"socket": "../x"}, {"socket": "/run/other.sock"}, {"socket": "a/b"}, {"socket": ".."},
     {"socket": "x", "export": 3}, {"socket": "x", "bitmap": 3}, {"socket": ""}],
)  # fmt: skip
def test_a_disk_that_is_served_elsewhere_or_nowhere_is_refused(make, nbd):
    with pytest.raises(Internal) as caught:
        make({"OpenDisk": {"nbd": nbd}}).open_source("web01", "disk-0", Context())
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"


def test_a_disk_whose_socket_is_not_there_is_a_lost_connection_and_is_closed(make, tmp_path):
    with pytest.raises(Unavailable):
        make({"OpenDisk": {"nbd": {"socket": "nbd"}}}).open_source("web01", "disk-0", Context())
    assert '"CloseDisk"' in (tmp_path / "hosts" / "calls.jsonl").read_text()


def test_what_the_host_answers_as_an_error_is_raised_as_that(make):
    data = {"kind": "NotFound", "reason": "MACHINE_NOT_FOUND", "message": "none"}
    with pytest.raises(NotFound) as caught:
        make({"GetMachine": {"error": {"code": -32000, "message": "none", "data": data}}}).machine("x")
    assert caught.value.reason == "MACHINE_NOT_FOUND"


@pytest.mark.parametrize("answer", [{"protocol": 2}, {"protocol": 1, "components": []}, [], "yes"])
def test_a_host_that_introduces_itself_wrongly_is_refused(make, answer):
    with pytest.raises(HyperError) as caught:
        make({"initialize": answer}).health()
    assert caught.value.reason == "HANDSHAKE_INVALID"


def test_a_host_that_cannot_be_started_or_dies_is_told(make):
    with pytest.raises(Unavailable) as caught:
        make({}, ("/no/such/program",)).health()
    assert caught.value.reason == "PROCESS_START_FAILED"
    with pytest.raises(Unavailable):
        make({})._call("Die", {})
    with pytest.raises(Unavailable):
        make({}, (sys.executable, "-c", "pass")).health()


def test_a_call_has_the_time_that_the_manifest_gives_the_method(make, tmp_path):
    provider = make({"OpenDisk": {"nbd": {"socket": "nbd"}}, "Health": {"ok": True}})
    provider._component = replace(provider._component, manifest={"methods": {"Health": {"timeout_s": 7}}})
    provider.health()
    with pytest.raises(Unavailable):
        provider.open_source("web01", "disk-0", Context())
    calls = [json.loads(line) for line in (tmp_path / "hosts" / "calls.jsonl").read_text().splitlines()]
    assert [call["timeout_s"] for call in calls] == [7, 120, 120]


def components(tmp_path, answers):
    """As a runner has them: a provider and a format that are not Python, and a connection of the first."""
    script = tmp_path / "host.py"
    script.write_text(HOST)
    host = [sys.executable, str(script), json.dumps(answers)]
    foreign = {"entry": "acme", "manifest": {}, "host": host, "package": {"name": "acme"}, "generation": "g"}
    text = {
        "protocol": 1, "mode": "run", "job": "jobs/x", "attempt": 1, "task": "export", "listen_fd": 0, "lock_fd": 0,
        "job_dir": str(tmp_path), "attempt_dir": str(tmp_path),
        "components": {"provider/acme": foreign, "format/acme": foreign},
        "connections": {"connections/lab": {"component": "provider/acme"}},
    }  # fmt: skip
    spec = runner_spec.parse(json.dumps(text).encode())
    return Components(spec, AttemptLog(tmp_path / "log.jsonl", Redactor()))


def test_a_job_finds_the_stand_in_by_its_connection_and_what_a_dead_attempt_held_is_released_by_it(tmp_path):
    granted = components(tmp_path, {"Health": {"ok": True}})
    assert granted.provider("connections/lab").health().ok
    granted.cleanup("provider/acme", {"connection": "connections/lab", "snapshot": 7})
    granted.close()
    calls = [json.loads(line) for line in (tmp_path / "hosts" / "calls.jsonl").read_text().splitlines()]
    assert calls[-1]["method"] == "Cleanup"
    assert calls[-1]["request"]["record"]["snapshot"] == 7
    assert calls[-1]["connection"]["name"] == "connections/lab"


def test_other_kinds_that_are_not_python_are_refused_when_a_job_needs_them(tmp_path):
    granted = components(tmp_path, {})
    with pytest.raises(Unsupported) as caught:
        granted.image_format("acme")
    assert caught.value.reason == "COMPONENT_NOT_PYTHON"
    assert granted.image_formats() == []


def test_after_the_end_no_new_host_is_started(make):
    provider = make({"Health": {"ok": True}})
    provider.health()
    provider.close()
    with pytest.raises(Unavailable):
        provider.health()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["name", "disks", "nics", "size_bytes", "details", "labels", "power_state", "cpu_count", "x"]), inner),
)  # fmt: skip


@given(JSON)
def test_whatever_is_told_of_a_machine_is_one_or_a_typed_error(data):
    try:
        machine_of(data)
    except Internal as exc:
        assert exc.reason == "PLUGIN_RESULT_INVALID"
