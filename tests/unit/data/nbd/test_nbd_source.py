"""NbdSource against a well-behaved server, whatever headers it has."""

import random
import select
import threading

import pytest
from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.data.nbd import NbdAddress, NbdSource
from hypersdk.data.nbd import constants as c
from hypersdk.errors import InvalidArgument, NotFound, OutOfRange, Unsupported
from support.nbdserver import NbdServer

KIB = 1024
BITMAP = "qemu:dirty-bitmap:b0"


def content(size: int) -> bytearray:
    return bytearray(random.Random(size).randbytes(size))


@pytest.fixture(params=["simple", "structured", "extended"])
def headers(request):
    return request.param


def test_reads_give_the_servers_bytes_at_any_offset(tmp_path, headers):
    disk = content(300 * KIB + 77)
    with NbdServer(tmp_path, disk, headers=headers) as server, NbdSource(server.address) as source:
        assert source.size == len(disk)
        assert source.info()["details"]["headers"] == headers
        for offset, length in [(0, len(disk)), (1, 511), (len(disk) - 3, 3), (70000, 65536), (5, 0)]:
            buffer = bytearray(length)
            source.readinto(offset, memoryview(buffer))
            assert buffer == disk[offset : offset + length]


@pytest.mark.parametrize("blocks", [(512, 4096, 8192), (4096, 4096, 10_000), (1, 65536, 0xFFFFFFFF), None])
def test_requests_keep_to_the_servers_block_sizes(tmp_path, blocks):
    disk = content(100 * KIB + 512)
    with NbdServer(tmp_path, disk, blocks=blocks) as server, NbdSource(server.address) as source:
        for offset, length in [(0, len(disk)), (100, 50_000), (8191, 2), (len(disk) - 100, 100), (511, 9000)]:
            buffer = bytearray(length)
            source.readinto(offset, memoryview(buffer))
            assert buffer == disk[offset : offset + length]
    least, _, most = blocks or (512, 0, 32 << 20)
    for command, offset, length in server.requests:
        if command == c.CMD_READ:
            assert offset % least == 0
            assert length % least == 0 or offset + length == len(disk)
            assert 0 < length <= most


@pytest.mark.parametrize("headers", ["structured", "extended"])
def test_the_map_says_what_reads_as_zeros(tmp_path, headers):
    rows = [(4096, 0), (8192, 3), (4096, 2), (4096, 1), (100, 0)]
    disk = bytearray(sum(n for n, _ in rows))
    with (
        NbdServer(tmp_path, disk, headers=headers, statuses={"base:allocation": rows}) as server,
        NbdSource(server.address) as source,
    ):
        data, zero = ExtentKind.DATA, ExtentKind.ZERO
        assert list(source.extents()) == [
            Extent(0, 4096, data), Extent(4096, 12288, zero), Extent(16384, 4196, data)
        ]  # fmt: skip
        assert list(source.extents(5000, 100)) == [Extent(5000, 100, zero)]
        assert list(source.extents(20480, 0)) == []


def test_without_a_map_everything_is_data(tmp_path, headers):
    with NbdServer(tmp_path, content(5000), headers=headers) as server, NbdSource(server.address) as source:
        assert list(source.extents()) == [Extent(0, 5000, ExtentKind.DATA)]
        assert list(source.extents(10, 20)) == [Extent(10, 20, ExtentKind.DATA)]
        assert not source.has_map


@pytest.mark.parametrize("headers", ["structured", "extended"])
def test_a_dirty_range_that_is_a_hole_now_is_told_as_zero_and_clean_ones_are_left_out(tmp_path, headers):
    statuses = {
        "base:allocation": [(8192, 0), (8192, 3), (16384, 0)],
        BITMAP: [(4096, 0), (8192, 1), (4096, 0), (16384, 1)],
    }
    with (
        NbdServer(tmp_path, content(32768), headers=headers, statuses=statuses) as server,
        NbdSource(server.address, bitmaps=("b0",)) as source,
    ):
        assert list(source.changes("b0")) == [
            Extent(4096, 4096, ExtentKind.DATA), Extent(8192, 4096, ExtentKind.ZERO),
            Extent(16384, 16384, ExtentKind.DATA),
        ]  # fmt: skip
        assert list(source.changes("b0", 5000, 10)) == [Extent(5000, 10, ExtentKind.DATA)]
        with pytest.raises(NotFound) as caught:
            source.changes("other")
        assert caught.value.reason == "NBD_BITMAP_MISSING"


def test_maps_that_come_in_small_answers_are_put_together(tmp_path):
    class OneExtent(NbdServer):
        def status_chunk(self, sock, headers, cookie, number, rows, *, done=True):
            super().status_chunk(sock, headers, cookie, number, rows[:1] if number == 1 else rows, done=done)

    allocation = [(512, 0)] * 5 + [(512, 3)] * 300
    statuses = {"base:allocation": allocation, BITMAP: [(512 * 305, 1)]}
    with (
        OneExtent(tmp_path, bytearray(512 * 305), statuses=statuses) as server,
        NbdSource(server.address, bitmaps=("b0",)) as source,
    ):
        for found in (list(source.extents()), list(source.changes("b0"))):
            assert found[0] == Extent(0, 2560, ExtentKind.DATA)
            assert {e.kind for e in found[1:]} == {ExtentKind.ZERO}
            assert sum(e.length for e in found) == 512 * 305


def test_a_bitmap_that_the_server_has_not_is_refused_when_the_disk_is_opened(tmp_path):
    with NbdServer(tmp_path, content(4096)) as server, pytest.raises(NotFound) as caught:
        NbdSource(server.address, bitmaps=("gone",))
    assert caught.value.reason == "NBD_BITMAP_MISSING"


def test_many_threads_read_through_one_connection_and_each_gets_its_own(tmp_path):
    disk = content(1 << 20)

    class OutOfOrder(NbdServer):
        """Answers in pairs, the later request first, in chunks that interleave."""

        held = None

        def read(self, sock, headers, cookie, offset, length):
            if self.held is None and select.select([sock], [], [], 0.02)[0]:
                self.held = (cookie, offset, length)
                return
            half = length // 2
            for part, done in ((half, False), (0, True)):
                for who, at, count in filter(None, [(cookie, offset, length), self.held]):
                    start, stop = (at, at + half) if part else (at + half, at + count)
                    body = c.OFFSET.pack(start) + bytes(self.content[start:stop])
                    self.chunk(sock, headers, who, c.REPLY_OFFSET_DATA, body, done=done)
            self.held = None

    with OutOfOrder(tmp_path, disk) as server, NbdSource(server.address) as source:
        wrong = []

        def read(number: int) -> None:
            rng = random.Random(number)
            for _ in range(40):
                offset = rng.randrange(0, len(disk) - 4096)
                buffer = bytearray(4096)
                source.readinto(offset, memoryview(buffer))
                if buffer != disk[offset : offset + 4096]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not wrong
        assert not any(t.is_alive() for t in threads)


def test_several_connections_are_used_where_the_server_offers_them(tmp_path):
    disk = content(1 << 20)
    inside = threading.Barrier(2, timeout=20)

    class Slow(NbdServer):
        def read(self, sock, headers, cookie, offset, length):
            if together.is_set():
                inside.wait()
            else:
                inside_first.set()
                release.wait(20)
            super().read(sock, headers, cookie, offset, length)

    inside_first, release, together = threading.Event(), threading.Event(), threading.Event()
    with Slow(tmp_path, disk, flags=c.CAN_MULTI_CONN) as server, NbdSource(server.address, connections=2) as source:

        def read() -> None:
            source.readinto(0, memoryview(bytearray(512)))

        first = threading.Thread(target=read)
        first.start()
        inside_first.wait(20)
        second = threading.Thread(target=read)  # finds the first busy, so the second connection is opened
        second.start()
        while len(source._pool._connections) < 2:
            second.join(0.01)
        release.set()
        first.join(20)
        second.join(20)
        together.set()
        both = [threading.Thread(target=read) for _ in range(2)]
        for thread in both:
            thread.start()  # the barrier lets them through only when each has a connection of its own
        for thread in both:
            thread.join(20)
        assert not any(t.is_alive() for t in both)
        assert len(server.connections) == 2


def test_reads_and_maps_past_the_end_are_refused_before_the_server_is_asked(tmp_path):
    with NbdServer(tmp_path, content(4096)) as server, NbdSource(server.address) as source:
        with pytest.raises(OutOfRange):
            source.readinto(4000, memoryview(bytearray(97)))
        with pytest.raises(OutOfRange):
            source.extents(0, 4097)
        assert server.requests == []


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("nbd+unix:///a%20b?socket=/run/x.sock", NbdAddress(path="/run/x.sock", export="a b")),
        ("nbd+unix:///?socket=/run/x", NbdAddress(path="/run/x")),
        ("nbd://127.0.0.1:1234/disk", NbdAddress(host="127.0.0.1", port=1234, export="disk")),
        ("nbd://[::1]", NbdAddress(host="::1")),
    ],
)
def test_addresses_are_those_of_the_projects_uri_document(uri, expected):
    assert NbdAddress.parse(uri) == expected


@pytest.mark.parametrize(
    "uri",
    ["", "nbd://", "http://127.0.0.1/", "nbd+unix:///x", "nbd+unix:///x?socket=rel", "nbd://127.0.0.1:99999/",
     "nbd://u@127.0.0.1/", "nbds://127.0.0.1/", "nbd+unix://h/x?socket=/a", "nbd://127.0.0.1/" + "x" * 5000],
)  # fmt: skip
def test_other_addresses_are_refused(uri):
    with pytest.raises(InvalidArgument):
        NbdAddress.parse(uri)


@pytest.mark.parametrize("host", ["192.0.2.1", "example.com", "0.0.0.0", "localhost.example.com"])
def test_a_server_on_another_machine_is_refused_because_nbd_has_no_protection(host):
    with pytest.raises(Unsupported) as caught:
        NbdAddress(host=host)
    assert caught.value.reason == "NBD_ADDRESS_NOT_LOCAL"


def test_a_socket_whose_path_is_longer_than_an_address_may_be_is_reached(tmp_path):
    disk = content(4096)
    with NbdServer(tmp_path, disk) as server:
        deep = tmp_path / ("d" * 120)
        deep.symlink_to(tmp_path)
        buffer = bytearray(4096)
        with NbdSource(NbdAddress(path=str(deep / "nbd"), export="disk")) as source:
            source.readinto(0, memoryview(buffer))
        assert buffer == disk
        assert server.requests
