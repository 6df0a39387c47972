"""Peer: what it sends, what it makes of answers, and how it ends."""

import asyncio
import contextlib
import json
import socket
import struct

import pytest
from hypersdk.errors import DeadlineExceeded, HyperError, Internal, InvalidArgument, ResourceExhausted, Unsupported
from hypersdk.wire.frames import Decoder, encode
from hypersdk_kernel.hosting import peer as peer_module
from hypersdk_kernel.hosting.peer import Peer, PeerGone
from hypothesis import given, settings
from hypothesis import strategies as st


class Other:
    """The far end of the connection, spoken by hand."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._decoder = Decoder()
        self._messages: list[dict] = []

    async def receive(self) -> dict:
        loop = asyncio.get_running_loop()
        while not self._messages:
            data = await asyncio.wait_for(loop.sock_recv(self.sock, 1 << 16), 5)
            assert data, "the peer closed"
            self._messages.extend(self._decoder.feed(data))
        return self._messages.pop(0)

    async def send(self, message: dict) -> None:
        await self.send_raw(encode({"jsonrpc": "2.0", **message}))

    async def send_raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)


@pytest.fixture
async def ends():
    ours, theirs = socket.socketpair()
    notifications: list[tuple[str, dict]] = []
    peer = Peer(ours, lambda method, params: notifications.append((method, params)))
    other = Other(theirs)
    yield peer, other, notifications
    peer.close()
    theirs.close()


async def test_a_request_gets_its_own_answer_whatever_the_order(ends):
    peer, other, _ = ends
    first = asyncio.create_task(peer.request("a", {"x": 1}, 5))
    second = asyncio.create_task(peer.request("b", {}, 5))
    sent = [await other.receive(), await other.receive()]
    assert [(m["jsonrpc"], m["method"], m["params"]) for m in sent] == [("2.0", "a", {"x": 1}), ("2.0", "b", {})]
    await other.send({"id": sent[1]["id"], "result": "second"})
    await other.send({"id": sent[0]["id"], "result": "first"})
    assert await first == "first"
    assert await second == "second"


async def test_an_error_of_the_tree_arrives_as_its_class_with_reason_and_violations(ends):
    peer, other, _ = ends
    task = asyncio.create_task(peer.request("call", {}, 5))
    message = await other.receive()
    data = {"kind": "InvalidArgument", "reason": "PAGE_TOKEN_INVALID", "message": "no", "violations": [{"field": "f"}]}
    await other.send({"id": message["id"], "error": {"code": -32000, "message": "no", "data": data}})
    with pytest.raises(InvalidArgument) as caught:
        await task
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
    assert caught.value.violations[0].field == "f"


@pytest.mark.parametrize(
    ("answer", "expected", "reason"),
    [
        ({"error": {"code": -32601, "message": "no such method"}}, Unsupported, "METHOD_UNKNOWN"),
        ({"error": {"code": -32602, "message": "bad"}}, Internal, "PEER_ERROR"),
        ({"error": {"code": -32000, "message": "bad", "data": "text"}}, Internal, "PEER_ERROR"),
        ({"error": "text"}, Internal, "PEER_ANSWER_INVALID"),
        ({}, Internal, "PEER_ANSWER_INVALID"),
    ],
)
async def test_other_errors_become_typed_ones(ends, answer, expected, reason):
    peer, other, _ = ends
    task = asyncio.create_task(peer.request("call", {}, 5))
    await other.send({"id": (await other.receive())["id"], **answer})
    with pytest.raises(expected) as caught:
        await task
    assert caught.value.reason == reason


async def test_time_over_raises_and_tells_the_peer(ends):
    peer, other, _ = ends
    with pytest.raises(DeadlineExceeded):
        await peer.request("slow", {}, 0.02)
    request, cancel = await other.receive(), await other.receive()
    assert cancel == {"jsonrpc": "2.0", "method": "cancel", "params": {"id": request["id"]}}
    await other.send({"id": request["id"], "result": "too late"})
    task = asyncio.create_task(peer.request("next", {}, 5))
    await other.send({"id": (await other.receive())["id"], "result": "fine"})
    assert await task == "fine"


async def test_a_cancelled_caller_is_told_to_the_peer(ends):
    peer, other, _ = ends
    task = asyncio.create_task(peer.request("slow", {}, 5))
    request = await other.receive()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await other.receive())["params"] == {"id": request["id"]}


async def test_a_closing_peer_fails_open_requests_and_later_ones(ends):
    peer, other, _ = ends
    task = asyncio.create_task(peer.request("call", {}, 5))
    await other.receive()
    other.sock.close()
    with pytest.raises(PeerGone) as caught:
        await task
    assert caught.value.sent
    assert caught.value.reason == "PEER_GONE"
    await peer.closed
    with pytest.raises(PeerGone) as caught:
        await peer.request("call", {}, 5)
    assert not caught.value.sent
    peer.notify("pause", {})  # lost, quietly


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack(">I", 1 << 30),
        struct.pack(">I", 0),
        struct.pack(">I", 4) + b"junk",
        struct.pack(">I", 2) + b"[]",
        b"Traceback (most recent call last):\n",
    ],
    ids=["1 GiB length", "length 0", "not JSON", "not an object", "printed text"],
)
async def test_a_broken_frame_ends_the_connection_and_says_why(ends, raw):
    peer, other, _ = ends
    task = asyncio.create_task(peer.request("call", {}, 5))
    await other.receive()
    await other.send_raw(raw)
    with pytest.raises(PeerGone):
        await task
    assert peer.closed.done()
    assert peer.failure is not None
    assert peer.failure.reason == "FRAME_INVALID"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.dictionaries(st.sampled_from(["id", "method", "params", "result", "error"]),
                                                         st.none() | st.integers() | st.text(max_size=3)), max_size=6))
async def test_nothing_that_a_peer_sends_does_more_than_end_its_connection(messages):
    ours, theirs = socket.socketpair()
    peer, other = Peer(ours, lambda method, params: None), Other(theirs)
    task = asyncio.create_task(peer.request("call", {}, 5))
    await other.receive()
    for message in messages:
        with contextlib.suppress(OSError):
            await other.send_raw(message if isinstance(message, bytes) else encode(message))
    theirs.close()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert peer.closed.done() or not isinstance(outcome, PeerGone)
    assert not isinstance(outcome, BaseException) or isinstance(outcome, HyperError)
    assert peer.failure is None or isinstance(peer.failure, HyperError)
    peer.close()


async def test_notifications_reach_the_handler_and_its_failure_harms_nothing(ends):
    peer, other, notifications = ends
    calls = []

    def handler(method, params):
        calls.append(method)
        raise ValueError("a defect in the handler")

    await other.send({"method": "log", "params": {"event": "x"}})
    task = asyncio.create_task(peer.request("call", {}, 5))
    message = await other.receive()
    assert notifications == [("log", {"event": "x"})]
    peer._on_notification = handler
    await other.send_raw(
        encode({"method": "log", "params": "no object"}) + encode({"id": message["id"], "result": 1})
    )
    assert await task == 1
    assert calls == ["log"]


async def test_a_request_of_the_peer_is_refused(ends):
    _, other, _ = ends
    await other.send({"id": 9, "method": "give_me", "params": {}})
    answer = await other.receive()
    assert (answer["id"], answer["error"]["code"]) == (9, -32601)


async def test_a_large_message_crosses_a_small_socket_buffer(ends):
    peer, other, _ = ends
    text = "ä" * 1_500_000
    task = asyncio.create_task(peer.request("call", {"text": text}, 5))
    message = await other.receive()
    assert message["params"]["text"] == text
    await other.send({"id": message["id"], "result": {"text": text}})
    assert (await task)["text"] == text


async def test_a_peer_that_never_reads_is_given_a_bounded_backlog(ends, monkeypatch):
    peer, _, _ = ends
    monkeypatch.setattr(peer_module, "MAX_BACKLOG_BYTES", 1 << 20)
    open_requests = [asyncio.create_task(peer.request("call", {"text": "x" * 700_000}, 5)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as caught:
        await open_requests[1]
    assert caught.value.reason == "PEER_BACKLOGGED"
    open_requests[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await open_requests[0]
    assert not peer.closed.done()


async def test_a_request_that_does_not_fit_a_frame_is_refused_before_it_is_sent(ends):
    peer, other, _ = ends
    with pytest.raises(ResourceExhausted) as caught:
        await peer.request("call", {"text": "x" * (9 << 20)}, 5)
    assert caught.value.reason == "FRAME_TOO_LARGE"
    task = asyncio.create_task(peer.request("small", {}, 5))
    await other.send({"id": json.loads(json.dumps(await other.receive()))["id"], "result": None})
    assert await task is None


async def test_a_waiter_for_the_end_that_is_cancelled_leaves_a_peer_that_still_ends_properly():
    """Cancelling `await peer.closed` cancels the future; a peer that took that for its own end spun on a dead
    socket."""
    import asyncio
    import socket

    from hypersdk_kernel.hosting.peer import Peer

    ours, theirs = socket.socketpair()
    peer = Peer(ours, lambda _method, _params: None)
    waiter = asyncio.ensure_future(peer.closed)
    await asyncio.sleep(0)
    waiter.cancel()
    theirs.close()
    async with asyncio.timeout(5):
        while ours.fileno() != -1:
            await asyncio.sleep(0.01)
