"""--trace-frames: every frame a line, no secret in any, bounded, and nothing when it is off."""

import asyncio
import json
import socket
import stat

import pytest
from hypersdk.errors import FailedPrecondition
from hypersdk.wire.frames import Decoder, encode
from hypersdk_kernel.hosting import frametrace
from hypersdk_kernel.hosting.frametrace import FrameTrace
from hypersdk_kernel.hosting.peer import Peer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECRETS = ("hunter2-of-the-lab", 'with "quotes" and \n lines', "ünïcödé-☃", "x9")
CALL = {
    "component": "provider/x", "method": "ListMachines", "service": "", "request": {"page_size": 5},
    "connection": {"name": "connections/lab", "config": {"user": "root"},
                   "secrets": dict(zip("abcd", SECRETS, strict=True))},
}  # fmt: skip


async def conversation(answers, calls):
    """Ask `calls` of a peer that answers with `answers`, in turn."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    peer = Peer(ours, lambda _m, _p: None, about={"peer": "host", "generation": "plugins/x/generations/1"})

    async def serve():
        decoder, number = Decoder(), 0
        while data := await loop.sock_recv(theirs, 65536):
            for message in decoder.feed(data):
                if "id" in message:
                    reply = {"jsonrpc": "2.0", "id": message["id"], **answers[number]}
                    number += 1
                    await loop.sock_sendall(theirs, encode(reply))

    serving = asyncio.ensure_future(serve())
    for method, params in calls:
        try:
            await peer.request(method, params, 5.0)
        except FailedPrecondition:
            pass
    peer.notify("cancel", {"id": 1})
    peer.close()
    await serving
    theirs.close()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_each_frame_is_a_line_that_says_which_call_it_belongs_to(tmp_path):
    path = tmp_path / "frames"
    with frametrace.install(FrameTrace(path, lambda: 12.5)):
        await conversation([{"result": {"machines": []}}], [("call", CALL)])
    sent, received, cancel = lines(path)
    assert (sent["time"], sent["direction"], sent["peer"]) == (12.5, "sent", "host")
    assert (sent["id"], sent["method"], sent["called"]) == (1, "call", "provider/x ListMachines")
    assert (received["direction"], received["called"]) == ("received", "provider/x ListMachines")
    assert received["payload"] == {"machines": []}
    assert received["bytes"] == len(encode({"jsonrpc": "2.0", "id": 1, "result": {"machines": []}}))
    assert sent["bytes"] > 100
    assert "id" not in cancel
    assert sent["payload"]["connection"]["config"] == {"user": "root"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_planted_secrets_appear_nowhere_whatever_the_plugin_makes_of_them(tmp_path):
    path = tmp_path / "frames"
    leak = {"kind": "FailedPrecondition", "reason": "X", "message": f"cannot log in with {SECRETS[0]}",
            "metadata": {SECRETS[2]: SECRETS[1]}}  # fmt: skip
    answers = [
        {"result": {"machines": [{"name": SECRETS[0], "details": {SECRETS[2]: "v", "k": f"a{SECRETS[1]}b"}}]}},
        {"error": {"code": -32000, "message": SECRETS[0], "data": leak}},
        {"result": {"value": "from-the-vault", "ttl_s": 1}},
        {"result": {"name": "from-the-vault"}},
        {"result": {}},
    ]
    vault = {"component": "secrets/file", "method": "Resolve", "request": {"ref": "a/b"}, "connection": None}
    token = {
        "component": "service/x", "method": "Run", "request": {"token": "api-token-1"}, "connection": None,
        "redact": ["keep-this-out"],
    }  # fmt: skip
    with frametrace.install(FrameTrace(path, lambda: 0.0)):
        await conversation(
            answers, [("call", CALL), ("call", CALL), ("call", vault), ("call", CALL), ("call", token)]
        )  # fmt: skip
    text = path.read_text()
    written = lines(path)
    assert len(written) == 11
    for secret in (*SECRETS[:3], "from-the-vault", "api-token-1", "keep-this-out"):
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text
    assert written[0]["payload"]["connection"]["secrets"] == "[redacted]"
    assert written[5]["payload"] == "[redacted]"


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS | st.sampled_from(SECRETS[:3]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.sampled_from(SECRETS[:3]), inner)
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES)
def test_a_secret_once_seen_is_masked_in_any_later_payload(tmp_path, value):
    path = tmp_path / "frames"
    path.unlink(missing_ok=True)
    trace = FrameTrace(path, lambda: 0.0)
    trace.write({}, CALL)
    trace.write({}, value)
    trace.close()
    for line in lines(path):
        text = json.dumps(line, ensure_ascii=False)
        assert not any(json.dumps(secret, ensure_ascii=False)[1:-1] in text for secret in SECRETS[:3])


def test_a_long_payload_is_cut_behind_the_masking(tmp_path):
    path = tmp_path / "frames"
    trace = FrameTrace(path, lambda: 0.0)
    trace.write({}, {"secrets": {"a": SECRETS[0]}})
    trace.write({"id": 1}, {"text": "y" * (frametrace.MAX_PAYLOAD_CHARS - 15) + SECRETS[0] + "z" * 9000})
    trace.close()
    record = lines(path)[1]
    assert len(record["payload_start"]) == frametrace.MAX_PAYLOAD_CHARS
    assert SECRETS[0][:5] not in record["payload_start"]


def test_the_file_turns_over_and_never_takes_more_than_twice_its_bound(tmp_path):
    path = tmp_path / "frames"
    trace = FrameTrace(path, lambda: 0.0, max_bytes=1000)
    for number in range(100):
        trace.write({"id": number}, {"text": "y" * 100})
    trace.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "frames.1"]
    assert all(p.stat().st_size <= 1000 for p in tmp_path.iterdir())
    assert lines(path)[-1]["id"] == 99


def test_a_file_that_cannot_be_written_ends_the_trace_and_nothing_else(tmp_path):
    trace = FrameTrace(tmp_path / "frames", lambda: 0.0, max_bytes=10)
    (tmp_path / "frames.1").mkdir()
    (tmp_path / "frames.1" / "x").touch()
    trace.write({}, {})
    trace.write({}, {})
    assert (tmp_path / "frames").read_text() == ""
    trace.close()
    with pytest.raises(OSError, match=r".+"):
        FrameTrace(tmp_path / "no" / "folder", lambda: 0.0)
    (tmp_path / "link").symlink_to(tmp_path / "frames")
    with pytest.raises(OSError, match=r".+"):
        FrameTrace(tmp_path / "link", lambda: 0.0)


async def test_without_a_trace_a_connection_has_none(tmp_path):
    ours, theirs = socket.socketpair()
    peer = Peer(ours, lambda _m, _p: None)
    assert peer._trace is None
    peer.close()
    theirs.close()
