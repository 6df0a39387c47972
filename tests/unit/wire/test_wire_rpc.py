"""Two peers over a socket pair: what either side may do to the other."""

import socket
import struct
import threading

import pytest
from hypersdk.errors import (
    DataLoss,
    DeadlineExceeded,
    FieldViolation,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    Unsupported,
    from_json,
)
from hypersdk.wire.frames import Decoder, encode
from hypersdk.wire.rpc import MAX_ERROR_TEXT, Method, Peer, error_from_rpc, error_to_rpc
from hypersdk.wire.workers import Workers

WAIT_S = 10.0


class Pair:
    """`client` asks, `server` answers with `methods`."""

    def __init__(self, methods):
        a, b = socket.socketpair()
        self.client, self.server = Peer(a, {}), Peer(b, methods)
        self._threads = [threading.Thread(target=p.run, daemon=True) for p in (self.client, self.server)]
        for thread in self._threads:
            thread.start()

    def ask(self, method="f", **params):
        return self.client.request(method, params, WAIT_S)

    def close(self):
        self.client.close()
        self.server.close()
        for thread in self._threads:
            thread.join(WAIT_S)


@pytest.fixture
def pair():
    made = []

    def make(handler=None, **methods):
        table = {name: m if isinstance(m, Method) else Method(m) for name, m in methods.items()}
        if handler is not None:
            table["f"] = Method(handler)
        made.append(Pair(table))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_result_comes_back(pair):
    assert pair(lambda r: {"twice": r.params["n"] * 2}).ask(n=21) == {"twice": 42}


def test_an_error_of_the_tree_arrives_with_all_its_parts(pair):
    def fail(_):
        raise InvalidArgument(
            "wrong", reason="FIELD_WRONG", metadata={"a": "b"}, violations=(FieldViolation("x.y", "must be 1"),)
        )

    with pytest.raises(InvalidArgument) as caught:
        pair(fail).ask()
    assert caught.value.reason == "FIELD_WRONG"
    assert caught.value.metadata == {"a": "b"}
    assert caught.value.violations == (FieldViolation("x.y", "must be 1"),)


@pytest.mark.parametrize("exc", [ValueError("odd"), SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_anything_a_handler_raises_is_an_answer_and_the_connection_lives(pair, exc):
    def fail(request):
        if request.params:
            raise exc
        return "alive"

    both = pair(fail)
    with pytest.raises(Internal):
        both.ask(now=True)
    assert both.ask() == "alive"


@pytest.mark.parametrize("result", [{1, 2}, float("nan"), object(), b"bytes"])
def test_a_result_that_is_no_json_is_an_error_answer(pair, result):
    with pytest.raises(Internal) as caught:
        pair(lambda _: result).ask()
    assert caught.value.reason == "RESULT_NOT_JSON"


def test_a_result_above_the_frame_limit_is_an_error_answer(pair):
    with pytest.raises(ResourceExhausted) as caught:
        pair(lambda _: "x" * (9 << 20)).ask()
    assert caught.value.reason == "FRAME_TOO_LARGE"


def test_an_error_of_any_size_fits_a_frame():
    huge = InvalidArgument(
        "m" * (9 << 20),
        metadata={str(i): "v" * 100_000 for i in range(200)},
        violations=tuple(FieldViolation("f" * 9999, "d" * 99_999) for _ in range(200)),
        retry_after_s=float("inf"),
    )
    frame = encode({"error": error_to_rpc(huge)})
    assert len(frame) < 4 << 20
    back = error_from_rpc(next(Decoder().feed(frame))["error"])
    assert back.message == "m" * MAX_ERROR_TEXT
    assert back.retry_after_s is None


def test_an_unknown_method_is_unsupported_and_an_unknown_notification_ignored(pair):
    both = pair(lambda _: "alive")
    both.client.notify("nobody", {})
    with pytest.raises(Unsupported) as caught:
        both.ask("nobody")
    assert caught.value.reason == "METHOD_UNKNOWN"
    assert both.ask() == "alive"


def test_a_slow_method_elsewhere_does_not_hold_up_the_reader(pair):
    release = threading.Event()
    workers = Workers(1, "test")
    both = pair(slow=Method(lambda _: release.wait(WAIT_S), workers.submit), ping=lambda _: "pong")
    answers = []
    asking = threading.Thread(target=lambda: answers.append(both.ask("slow")))
    asking.start()
    assert both.ask("ping") == "pong"
    release.set()
    asking.join(WAIT_S)
    assert answers == [True]


def test_a_request_cancelled_before_it_began_never_runs(pair):
    ran = []
    queue = []
    both = pair(f=Method(lambda _: ran.append(1), queue.append), sync=lambda _: 1)
    with pytest.raises(DeadlineExceeded):
        both.client.request("f", {}, 0.01)
    both.ask("sync")
    both.server.cancel(1)
    assert both.server.drain(WAIT_S)
    queue[0]()
    assert ran == []


def test_a_handler_may_answer_early_and_only_its_first_answer_counts(pair):
    def early(request):
        request.answer("first")
        return "second"

    both = pair(early)
    assert both.ask() == "first"
    assert both.ask() == "first"


def test_asking_without_an_answer_ends_at_the_timeout(pair):
    both = pair(f=Method(lambda _: None, lambda job: None))
    with pytest.raises(DeadlineExceeded):
        both.client.request("f", {}, 0.01)


def test_when_the_connection_ends_waiting_requests_end(pair):
    both = pair(f=Method(lambda _: None, lambda job: both.server.close()))
    with pytest.raises(Unavailable) as caught:
        both.ask()
    assert caught.value.reason == "CONNECTION_CLOSED"
    with pytest.raises(Unavailable):
        both.client.notify("f", {})


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\x00\x00\x00", struct.pack(">I", (8 << 20) + 1), b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x03\xff{}"],
)
def test_a_frame_that_is_none_ends_the_connection(pair, garbage):
    both = pair(lambda _: 1)
    both.client._socket.sendall(garbage)
    assert both.server.closed.wait(WAIT_S)


@pytest.mark.parametrize(
    "message",
    [
        {"id": "text", "method": "f", "params": {}},
        {"id": 900, "method": 7, "params": {}},
        {"id": 900, "method": "f", "params": []},
        {"id": True, "method": "f", "params": {}},
    ],
)
def test_a_request_of_wrong_shape_is_refused_and_the_connection_lives(pair, message):
    both = pair(lambda _: "alive")
    both.client._socket.sendall(encode(message))
    assert both.ask() == "alive"


def test_a_response_nobody_waits_for_is_ignored(pair):
    both = pair(lambda _: "alive")
    both.server._socket.sendall(encode({"id": 999, "result": 1}))
    assert both.ask() == "alive"


@pytest.mark.parametrize("error", [None, 7, {"code": -32603}, {"data": {"kind": 3, "violations": "x"}}])
def test_an_error_member_of_any_shape_becomes_an_error(error):
    assert isinstance(error_from_rpc(error), Internal)


def test_frames_survive_any_cut_of_the_stream():
    messages = [{"id": i, "text": "ü" * i} for i in range(20)]
    stream = b"".join(encode(m) for m in messages)
    for step in (1, 2, 3, 7, 64, len(stream)):
        decoder = Decoder()
        seen = [m for at in range(0, len(stream), step) for m in decoder.feed(stream[at : at + step])]
        assert seen == messages
        assert decoder.pending == 0


def test_a_decoder_refuses_what_is_no_frame():
    with pytest.raises(DataLoss):
        list(Decoder(limit=10).feed(b"\x00\x00\x00\x0b"))


def test_errors_keep_what_matters_over_the_wire():
    error = ResourceExhausted("full", reason="DISK_FULL", retry_after_s=3)
    back = from_json(error_to_rpc(error)["data"])
    assert (type(back), back.reason, back.retryable, back.retry_after_s) == (ResourceExhausted, "DISK_FULL", True, 3.0)


def test_workers_run_everything_on_at_most_their_limit_of_threads():
    done = threading.Semaphore(0)
    seen = set()
    workers = Workers(3, "few")

    def job():
        seen.add(threading.current_thread().name)
        done.release()

    for _ in range(50):
        workers.submit(job)
    for _ in range(50):
        assert done.acquire(timeout=WAIT_S)
    assert 1 <= len(seen) <= 3
