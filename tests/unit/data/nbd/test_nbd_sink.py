"""NbdSink: what was written is there, zeros are really written, and it is flushed at the end."""

import random

import pytest
from hypersdk.data.nbd import NbdSink, NbdSource
from hypersdk.data.nbd import constants as c
from hypersdk.data.pipeline import copy
from hypersdk.errors import FailedPrecondition, InvalidArgument, OutOfRange, Unsupported
from support.nbdserver import NbdServer

SIZE = 5 << 20


def commands(server: NbdServer) -> list[int]:
    """But for the leave, which is not answered and so may still be on its way."""
    return [command for command, _, _ in server.requests if command != c.CMD_DISC]


@pytest.mark.parametrize("headers", ["simple", "structured", "extended"])
def test_a_disk_is_copied_from_server_to_server_over_stale_bytes(tmp_path, headers):
    disk = bytearray(random.Random(1).randbytes(SIZE // 2) + bytes(SIZE - SIZE // 2))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    statuses = {"base:allocation": [(SIZE // 2, 0), (SIZE - SIZE // 2, 3)]}
    with (
        NbdServer(tmp_path / "a", disk, headers=headers, statuses=statuses) as first,
        NbdServer(tmp_path / "b", bytearray(b"s" * SIZE), headers=headers) as second,
        NbdSource(first.address) as source,
    ):
        result = copy(source, NbdSink(second.address))
        assert second.content == disk
        assert result.sink["durable"]
        assert commands(second)[-1] == c.CMD_FLUSH
        assert c.CMD_WRITE_ZEROES in commands(second)


def test_where_the_server_cannot_write_zeroes_they_are_sent(tmp_path):
    with NbdServer(tmp_path, bytearray(b"s" * SIZE)) as server:
        server.flags = c.HAS_FLAGS
        sink = NbdSink(server.address)
        sink.zero(4096, SIZE - 4096)
        assert sink.checkpoint() is None
        assert not sink.finish()["durable"]
        assert server.content == b"s" * 4096 + bytes(SIZE - 4096)


def test_zeros_on_a_disk_that_starts_blank_cost_nothing(tmp_path):
    with NbdServer(tmp_path, bytearray(SIZE)) as server:
        sink = NbdSink(server.address, starts_blank=True)
        sink.zero(0, SIZE)
        sink.finish()
        assert commands(server) == [c.CMD_FLUSH]


def test_a_checkpoint_is_a_flush_behind_all_writes(tmp_path):
    with NbdServer(tmp_path, bytearray(SIZE)) as server:
        sink = NbdSink(server.address)
        sink.write(0, b"a" * 4096)
        assert sink.checkpoint() == {}
        assert commands(server) == [c.CMD_WRITE, c.CMD_FLUSH]
        sink.abort()
        sink.abort()


def test_trim_is_sent_where_the_server_has_it_and_else_refused(tmp_path):
    with NbdServer(tmp_path, bytearray(SIZE)) as server:
        sink = NbdSink(server.address)
        sink.trim(0, 4096)
        sink.finish()
        assert commands(server)[0] == c.CMD_TRIM
        server.flags = c.HAS_FLAGS
        sink = NbdSink(server.address)
        with pytest.raises(Unsupported):
            sink.trim(0, 4096)
        sink.abort()


def test_a_read_only_export_is_refused_at_once(tmp_path):
    with (
        NbdServer(tmp_path, bytearray(SIZE), flags=c.READ_ONLY) as server,
        pytest.raises(FailedPrecondition) as caught,
    ):
        NbdSink(server.address)
    assert caught.value.reason == "NBD_EXPORT_READ_ONLY"


def test_writes_outside_the_disk_or_its_blocks_are_refused_before_they_are_sent(tmp_path):
    with NbdServer(tmp_path, bytearray(SIZE), blocks=(512, 4096, 1 << 20)) as server:
        sink = NbdSink(server.address)
        with pytest.raises(OutOfRange):
            sink.write(SIZE - 511, bytes(512))
        with pytest.raises(OutOfRange):
            sink.zero(SIZE, 512)
        with pytest.raises(InvalidArgument):
            sink.write(1, bytes(512))
        assert server.requests == []
        sink.abort()
