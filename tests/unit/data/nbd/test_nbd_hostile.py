"""Servers that lie, stop or never come to an end: a typed error, soon, and never wrong bytes."""

import random
import struct

import pytest
from hypersdk.data.nbd import NbdSink, NbdSource
from hypersdk.data.nbd import constants as c
from hypersdk.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    HyperError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unsupported,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.nbdserver import NbdServer, PlaybackServer

SIZE = 64 * 1024
MAP = {"base:allocation": [(SIZE // 2, 0), (SIZE // 2, 3)]}
HELLO = c.HELLO.pack(c.INIT_MAGIC, c.OPTION_MAGIC, 3)


def disk() -> bytearray:
    return bytearray(random.Random(5).randbytes(SIZE // 2)) + bytearray(SIZE // 2)


def session(source: NbdSource) -> tuple:
    """Everything a client asks: the map, then the bytes."""
    buffer = bytearray(SIZE)
    found = list(source.extents())
    source.readinto(0, memoryview(buffer))
    return found, bytes(buffer)


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return c.OPTION_REPLY.pack(c.OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def export(size: int = SIZE, flags: int = 1, blocks: tuple[int, int, int] | None = None) -> bytes:
    out = reply(c.OPT_GO, c.REP_INFO, struct.pack(">HQH", 0, size, flags))
    if blocks:
        out += reply(c.OPT_GO, c.REP_INFO, struct.pack(">HIII", 3, *blocks))
    return out + reply(c.OPT_GO, c.REP_ACK)


PLAIN = HELLO + reply(c.OPT_EXTENDED_HEADERS, c.REP_ERR_UNSUP) + reply(c.OPT_STRUCTURED_REPLY, c.REP_ERR_UNSUP)
STRUCTURED = HELLO + reply(c.OPT_EXTENDED_HEADERS, c.REP_ERR_UNSUP) + reply(c.OPT_STRUCTURED_REPLY, c.REP_ACK)
NO_CONTEXT = reply(c.OPT_SET_META_CONTEXT, c.REP_ACK)


def test_the_playback_used_below_is_a_sound_session_when_nothing_is_changed(tmp_path):
    with PlaybackServer(tmp_path, PLAIN + export(), hang_up=False) as server, NbdSource(server.address) as source:
        assert source.size == SIZE


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"", Unavailable, "NBD_CONNECTION_LOST"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (struct.pack(">QQQ", c.INIT_MAGIC, 0x00420281861253, 5), Unsupported, "NBD_SERVER_TOO_OLD"),
        (c.HELLO.pack(c.INIT_MAGIC, c.OPTION_MAGIC, 0), Unsupported, "NBD_SERVER_TOO_OLD"),
        (PLAIN + reply(c.OPT_GO, c.REP_ERR_UNKNOWN, b"no\x1b[31m such"), NotFound, "NBD_EXPORT_UNKNOWN"),
        (PLAIN + reply(c.OPT_GO, c.REP_ERR_TLS_REQD), Unsupported, "NBD_TLS_REQUIRED"),
        (PLAIN + reply(c.OPT_GO, c.REP_ERR_UNSUP), Unsupported, "NBD_SERVER_TOO_OLD"),
        (PLAIN + reply(c.OPT_GO, c.REP_ERR_SHUTDOWN), Unavailable, "NBD_SERVER_STOPPING"),
        (PLAIN + reply(c.OPT_GO, c.REP_ERR_POLICY, b"no"), FailedPrecondition, "NBD_EXPORT_REFUSED"),
        (PLAIN + reply(c.OPT_GO, c.REP_ACK), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + export(1 << 63), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + export(blocks=(0, 4096, 65536)), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + export(blocks=(3, 4096, 65536)), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + export(blocks=(1 << 17, 1 << 17, 1 << 20)), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + export(blocks=(4096, 512, 65536)), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + export(blocks=(4096, 4096, 512)), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + reply(c.OPT_GO, c.REP_INFO, b"\0"), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + reply(c.OPT_GO, c.REP_INFO, bytes(11)), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + reply(c.OPT_GO, 9), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (PLAIN + reply(c.OPT_STRUCTURED_REPLY, c.REP_ACK), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (HELLO + bytes(20), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (HELLO + c.OPTION_REPLY.pack(c.OPTION_REPLY_MAGIC, 11, c.REP_ACK, 1 << 31), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (HELLO + reply(c.OPT_EXTENDED_HEADERS, c.REP_ACK, b"x"), DataLoss, "NBD_PROTOCOL_VIOLATION"),
        (
            STRUCTURED + reply(c.OPT_SET_META_CONTEXT, c.REP_META_CONTEXT, bytes(3)) + NO_CONTEXT + export(),
            DataLoss, "NBD_PROTOCOL_VIOLATION",
        ),
        (
            STRUCTURED + reply(c.OPT_SET_META_CONTEXT, c.REP_META_CONTEXT, bytes(4) + b"other:thing") + NO_CONTEXT,
            DataLoss, "NBD_PROTOCOL_VIOLATION",
        ),
        (
            STRUCTURED + 2 * reply(c.OPT_SET_META_CONTEXT, c.REP_META_CONTEXT, bytes(4) + b"base:allocation"),
            DataLoss, "NBD_PROTOCOL_VIOLATION",
        ),
        (
            PLAIN + 200 * reply(c.OPT_GO, c.REP_INFO, struct.pack(">H", 1) + b"name"),
            DataLoss, "NBD_PROTOCOL_VIOLATION",
        ),
    ],
)  # fmt: skip
def test_a_negotiation_that_cannot_be_is_a_typed_error(tmp_path, data, kind, reason):
    with PlaybackServer(tmp_path, data) as server, pytest.raises(kind) as caught:
        NbdSource(server.address, timeout_s=20)
    assert caught.value.reason == reason
    assert caught.value.message.isprintable()


def test_a_server_that_refuses_contexts_is_used_without_a_map(tmp_path):
    data = STRUCTURED + reply(c.OPT_SET_META_CONTEXT, c.REP_ERR_INVALID, b"?") + export()
    with PlaybackServer(tmp_path, data, hang_up=False) as server, NbdSource(server.address) as source:
        assert not source.has_map


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(tmp_path):
    with PlaybackServer(tmp_path, HELLO, hang_up=False) as server, pytest.raises(DeadlineExceeded) as caught:
        NbdSource(server.address, timeout_s=0.2)
    assert caught.value.reason == "NBD_TIMEOUT"


def test_a_negotiation_that_trickles_is_given_up_too(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr("hypersdk.data.nbd.handshake.time.monotonic", lambda: next(clock))
    with PlaybackServer(tmp_path, PLAIN + export()) as server, pytest.raises(DeadlineExceeded):
        NbdSource(server.address, timeout_s=20)


@pytest.mark.parametrize("headers", ["simple", "structured", "extended"])
def test_a_session_cut_at_any_byte_is_a_typed_error(tmp_path, headers):
    with NbdServer(tmp_path, disk(), headers=headers, statuses=MAP) as server:
        with NbdSource(server.address) as source:
            expected = session(source)
        whole = bytes(server.sent)
    assert expected[1] == disk()
    framing = len(whole) - SIZE
    for cut in [*range(framing), *range(framing, len(whole), 9973), len(whole) - 1]:
        with (
            PlaybackServer(tmp_path, whole[:cut]) as server,
            pytest.raises(Unavailable) as caught,
            NbdSource(server.address, timeout_s=20) as source,
        ):
            session(source)
        assert caught.value.reason == "NBD_CONNECTION_LOST", cut


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["simple", "structured", "extended"]))
def test_a_damaged_session_ends_in_a_typed_error_or_changes_nothing_but_content(tmp_path, data, headers):
    with NbdServer(tmp_path, bytearray(4096), headers=headers, statuses={"base:allocation": [(4096, 0)]}) as server:
        with NbdSource(server.address) as source:
            list(source.extents())
            source.readinto(0, memoryview(bytearray(4096)))
        whole = bytearray(server.sent)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 4096))] = data.draw(st.integers(0, 255))
    with PlaybackServer(tmp_path, bytes(whole)) as server:
        try:
            with NbdSource(server.address, timeout_s=20) as source:
                size = min(source.size, 1 << 20)
                end = 0
                for extent in source.extents(0, size):
                    assert extent.offset == end
                    end = extent.end
                source.readinto(0, memoryview(bytearray(size)))
        except HyperError as exc:
            assert exc.kind != "Internal", exc


class Liar(NbdServer):
    """Answers reads by `lie`, with structured replies."""

    lie = staticmethod(lambda server, sock, headers, cookie, offset, length: None)

    def read(self, sock, headers, cookie, offset, length):
        self.lie(self, sock, headers, cookie, offset, length)


def data_at(offset: int, count: int) -> bytes:
    return c.OFFSET.pack(offset) + b"x" * count


LIES = {
    "another cookie": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie + 1, 1, data_at(o, n)),
    "no bytes at all": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 0),
    "too few bytes": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 1, data_at(o, n - 1)),
    "too many bytes": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 1, data_at(o, n + 1)),
    "bytes before": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 1, data_at(o - 1, n)),
    "bytes behind": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 1, data_at(o + 1, n)),
    "an offset near 2^64": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 1, data_at((1 << 64) - 8, n)),
    "an empty data chunk": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 1, data_at(o, 0)),
    "a hole of no bytes": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 2, c.HOLE.pack(o, 0)),
    "a hole that is too long": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 2, c.HOLE.pack(o, 0xFFFFFFFF)),
    "a hole of another form": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 2, bytes(11)),
    "an unknown chunk": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 77, bytes(8)),
    "a block status": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 5, bytes(12)),
    "an error without number": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 0x8001, c.ERROR.pack(0, 0)),
    "an error that is too short": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 0x8001, bytes(5)),
    "an error of other length": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 0x8001, c.ERROR.pack(5, 9)),
    "an error that is too long": lambda s, k, h, cookie, o, n: s.chunk(
        k, h, cookie, 0x8001, c.ERROR.pack(5, 60000) + bytes(60000)
    ),
    "a simple reply": lambda s, k, h, cookie, o, n: s.simple(k, cookie, 0, bytes(n)),
    "another magic": lambda s, k, h, cookie, o, n: k.sendall(bytes(20)),
    "an empty chunk that is not the last": lambda s, k, h, cookie, o, n: s.chunk(k, h, cookie, 0, done=False),
}


def twice(s, k, h, cookie, o, n):
    s.chunk(k, h, cookie, 1, data_at(o, 100), done=False)
    s.chunk(k, h, cookie, 1, data_at(o + 99, n - 99))


def crumbs(s, k, h, cookie, o, n):
    for at in range(0, n, 2):
        s.chunk(k, h, cookie, 1, data_at(o + at, 1), done=False)


LIES |= {"bytes twice": twice, "a chunk a byte": crumbs}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lying_answer_to_a_read_ends_the_connection(tmp_path, lie):
    class This(Liar):
        pass

    This.lie = staticmethod(lie)
    with This(tmp_path, disk()) as server, NbdSource(server.address, timeout_s=20) as source:
        for _ in range(2):
            with pytest.raises(DataLoss) as caught:
                source.readinto(4096, memoryview(bytearray(4096)))
            assert caught.value.reason == "NBD_PROTOCOL_VIOLATION"
            assert not caught.value.retryable


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [(5, DataLoss, "INPUT_OUTPUT_ERROR"), (12, ResourceExhausted, "NBD_SERVER_EXHAUSTED"),
     (22, FailedPrecondition, "NBD_REQUEST_REFUSED"), (108, Unavailable, "NBD_SERVER_STOPPING"),
     (4_000_000_000, FailedPrecondition, "NBD_REQUEST_REFUSED")],
)  # fmt: skip
def test_an_error_of_the_server_is_that_request_s_alone(tmp_path, number, kind, reason):
    class This(NbdServer):
        def read(self, sock, headers, cookie, offset, length):
            if offset == 4096:
                words = b"disk\x07 on fire"
                body = c.ERROR.pack(number, len(words)) + words + c.OFFSET.pack(offset)
                self.chunk(sock, headers, cookie, c.REPLY_ERROR_OFFSET, body)
            else:
                super().read(sock, headers, cookie, offset, length)

    with This(tmp_path, disk()) as server, NbdSource(server.address) as source:
        with pytest.raises(kind) as caught:
            source.readinto(4096, memoryview(bytearray(4096)))
        assert caught.value.reason == reason
        assert "disk� on fire" in caught.value.message
        buffer = bytearray(100)
        source.readinto(0, memoryview(buffer))
        assert buffer == disk()[:100]


STATUS_LIES = {
    "an extent of no bytes": [(0, 0)],
    "extents past the end": [(SIZE, 0), (512, 0)],
    "no extents": [],
}


@pytest.mark.parametrize("rows", STATUS_LIES.values(), ids=STATUS_LIES.keys())
@pytest.mark.parametrize("headers", ["structured", "extended"])
def test_a_map_that_does_not_advance_or_goes_too_far_ends_the_connection(tmp_path, rows, headers):
    class This(NbdServer):
        def status(self, sock, headers, contexts, cookie, offset, length):
            self.status_chunk(sock, headers, cookie, 1, rows)

    with (
        This(tmp_path, disk(), headers=headers, statuses=MAP) as server,
        NbdSource(server.address, timeout_s=20) as source,
        pytest.raises(DataLoss) as caught,
    ):
        list(source.extents())
    assert caught.value.reason == "NBD_PROTOCOL_VIOLATION"


@pytest.mark.parametrize("contexts", [(7,), (1, 1), ()], ids=["unknown", "twice", "none"])
def test_a_map_of_other_contexts_than_those_asked_for_ends_the_connection(tmp_path, contexts):
    class This(NbdServer):
        def status(self, sock, headers, _contexts, cookie, offset, length):
            for number in contexts:
                self.status_chunk(sock, headers, cookie, number, [(length, 0)], done=False)
            self.chunk(sock, headers, cookie, c.REPLY_NONE)

    with (
        This(tmp_path, disk(), statuses=MAP) as server,
        NbdSource(server.address, timeout_s=20) as source,
        pytest.raises(DataLoss),
    ):
        list(source.extents())


def test_the_last_extent_of_an_answer_may_reach_behind_what_was_asked(tmp_path):
    class This(NbdServer):
        def status(self, sock, headers, contexts, cookie, offset, length):
            self.status_chunk(sock, headers, cookie, 1, [(0xFFFFFFFF, 0)])

    with This(tmp_path, disk(), statuses=MAP) as server, NbdSource(server.address) as source:
        assert [(e.offset, e.end) for e in source.extents(512, 1024)] == [(512, 1536)]


def test_a_read_that_is_never_answered_ends_after_the_timeout_and_closing_is_still_possible(tmp_path):
    class Silent(NbdServer):
        def read(self, sock, headers, cookie, offset, length):
            pass

    with (
        Silent(tmp_path, disk()) as server,
        NbdSource(server.address, timeout_s=0.2) as source,
        pytest.raises(DeadlineExceeded),
    ):
        source.readinto(0, memoryview(bytearray(512)))


def test_a_sink_reports_a_failed_write_at_the_latest_when_it_is_finished(tmp_path):
    class Full(NbdServer):
        def handle(self, sock, headers, contexts, command, cookie, offset, length, payload):
            self.simple(sock, cookie, 28 if command == c.CMD_WRITE else 0)

    with Full(tmp_path, disk()) as server:
        sink = NbdSink(server.address)
        with pytest.raises(ResourceExhausted) as caught:
            for at in range(0, SIZE, 4096):
                sink.write(at, bytes(4096))
            sink.finish()
        assert caught.value.reason == "DISK_FULL"
        sink.abort()
