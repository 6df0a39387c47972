"""The NBD client against the servers that the world uses: qemu-nbd and nbdkit, compared byte by byte."""

import os
import random
import subprocess
import time

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.filters.retry import RetryingSource
from hypersdk.data.nbd import NbdAddress, NbdSink, NbdSource
from hypersdk.data.pipeline import copy
from hypersdk.errors import DataLoss, HyperError, NotFound, OutOfRange, ResourceExhausted, Unavailable
from support.images import MIB, same, scattered
from support.nbdpeers import nbdkit, need, qemu_nbd

pytestmark = pytest.mark.peer
SIZE = 64 * MIB + 512


def qemu(*arguments: object) -> str:
    need(str(arguments[0]))
    return subprocess.run(list(map(str, arguments)), check=True, capture_output=True, text=True).stdout


def blank(path, size=SIZE):
    with path.open("wb") as file:
        file.truncate(size)
    return path


def content(source, extents) -> dict[int, bytes]:
    """Offset → bytes of the DATA extents; zeros elsewhere are asserted."""
    found = {}
    for extent in extents:
        buffer = bytearray(extent.length)
        source.readinto(extent.offset, memoryview(buffer))
        if extent.kind == ExtentKind.ZERO:
            assert not any(buffer)
        else:
            found[extent.offset] = bytes(buffer)
    return found


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "disk.raw"
    scattered(path, SIZE, 9)
    return path


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_disk_comes_out_of_qemu_nbd_and_goes_into_another_one(tmp_path, raw, image_format):
    image, target = tmp_path / "disk.image", blank(tmp_path / "copy.raw")
    qemu("qemu-img", "convert", "-O", image_format, raw, image)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        qemu_nbd(tmp_path / "a", image, "-r", "-f", image_format, "-e", "4") as from_,
        qemu_nbd(tmp_path / "b", target, "-f", "raw") as to,
        NbdSource(from_) as source,
    ):
        assert source.has_map
        assert source.size == SIZE
        read = copy(source, NbdSink(to)).bytes_read
        assert read < SIZE // 2, "the map saves reading the holes"
    assert target.read_bytes() == raw.read_bytes()


def test_a_disk_goes_through_nbdkit_over_stale_bytes(tmp_path, raw):
    (tmp_path / "b").mkdir()
    target = tmp_path / "copy.raw"
    target.write_bytes(os.urandom(SIZE))
    with (
        nbdkit(tmp_path, "-r", "file", str(raw)) as from_,
        nbdkit(tmp_path / "b", "file", str(target)) as to,
        NbdSource(from_) as source,
    ):
        copy(source, NbdSink(to))
    assert target.read_bytes() == raw.read_bytes()


def test_random_reads_of_a_qcow2_are_the_disks_bytes(tmp_path, raw):
    image = tmp_path / "disk.qcow2"
    qemu("qemu-img", "convert", "-O", "qcow2", raw, image)
    whole = raw.read_bytes()
    rng = random.Random(3)
    with qemu_nbd(tmp_path, image, "-r", "-f", "qcow2") as address, NbdSource(address) as source:
        for _ in range(200):
            offset = rng.randrange(SIZE)
            buffer = bytearray(min(rng.choice([1, 511, 4096, 70_000, 6 * MIB]), SIZE - offset))
            source.readinto(offset, memoryview(buffer))
            assert buffer == whole[offset : offset + len(buffer)]
        assert content(source, source.extents(12345, 20 * MIB)).keys() <= set(range(12345, 12345 + 20 * MIB))


def test_what_a_dirty_bitmap_calls_changed_makes_the_new_disk_out_of_the_old(tmp_path):
    image = tmp_path / "disk.qcow2"
    qemu("qemu-img", "create", "-f", "qcow2", image, "256M")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 8M", "-c", "write -P 9 100M 64k", image)
    before = tmp_path / "before.raw"
    qemu("qemu-img", "convert", "-O", "raw", image, before)
    qemu("qemu-img", "bitmap", "--add", "--enable", image, "b0")
    changes = ["write -P 8 2M 1M", "write -z -u 4M 1M", "write -P 5 200M 128k", "discard 100M 64k"]
    qemu("qemu-io", "-f", "qcow2", *(part for change in changes for part in ("-c", change)), image)
    with qemu_nbd(tmp_path, image, "-r", "-f", "qcow2", "-B", "b0") as address:
        with NbdSource(address, bitmaps=("b0",)) as source:
            found = list(source.changes("b0"))
            assert sum(e.length for e in found) < 3 * MIB
            assert [e.length for e in found if e.kind == ExtentKind.ZERO] == [MIB, 65536]
            with before.open("r+b") as file:
                for extent in found:
                    file.seek(extent.offset)
                    buffer = bytearray(extent.length)
                    if extent.kind == ExtentKind.DATA:
                        source.readinto(extent.offset, memoryview(buffer))
                    file.write(buffer)
        with pytest.raises(NotFound):
            NbdSource(address, bitmaps=("b1",))
    same(before, image)


def test_a_read_that_fails_in_the_server_is_told_as_what_it_is_and_can_be_tried_again(tmp_path, raw):
    trigger = tmp_path / "fail"
    trigger.touch()
    arguments = ["--filter=error", "-r", "file", str(raw), "error=EIO", f"error-file={trigger}"]
    with nbdkit(tmp_path, *arguments, "error-pread-rate=100%") as address, NbdSource(address) as source:
        with pytest.raises(DataLoss) as caught:
            source.readinto(0, memoryview(bytearray(4096)))
        assert caught.value.reason == "INPUT_OUTPUT_ERROR"
        trigger.unlink()
        buffer = bytearray(SIZE)
        source.readinto(0, memoryview(buffer))
        assert buffer == raw.read_bytes()


def test_a_source_that_is_short_of_memory_now_and_then_is_read_whole_with_retries(tmp_path, raw):
    arguments = ["--filter=error", "-r", "file", str(raw), "error=ENOMEM", "error-pread-rate=20%"]
    target = blank(tmp_path / "copy.raw")
    (tmp_path / "b").mkdir()
    with (
        nbdkit(tmp_path, *arguments) as from_,
        nbdkit(tmp_path / "b", "file", str(target)) as to,
        RetryingSource(NbdSource(from_), attempts=50, sleep=lambda _s: None) as source,
    ):
        copy(source, NbdSink(to))
    assert target.read_bytes() == raw.read_bytes()


def test_a_slow_server_is_waited_for_with_many_requests_under_way(tmp_path, raw):
    with (
        nbdkit(tmp_path, "--filter=delay", "-r", "file", str(raw), "delay-read=20ms") as address,
        NbdSource(address) as source,
    ):
        buffer = bytearray(SIZE)
        source.readinto(0, memoryview(buffer))
    assert buffer == raw.read_bytes()


def test_a_target_that_runs_full_is_told(tmp_path):
    target = blank(tmp_path / "copy.raw")
    arguments = ["--filter=error", "file", str(target), "error=ENOSPC", "error-pwrite-rate=100%"]
    with nbdkit(tmp_path, *arguments) as address:
        sink = NbdSink(address)
        with pytest.raises(ResourceExhausted) as caught:
            for at in range(0, 16 * MIB, MIB):
                sink.write(at, b"x" * MIB)
        assert caught.value.reason == "DISK_FULL"
        sink.abort()


def test_a_server_that_is_killed_in_the_middle_is_told_as_lost(tmp_path, raw):
    need("nbdkit")
    socket = tmp_path / "kit"
    command = ["nbdkit", "-f", "-U", str(socket), "--filter=delay", "-r", "file", str(raw), "delay-read=1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        while not socket.exists():
            time.sleep(0.01)
        source = _opened(socket)
        process.kill()
        with pytest.raises(Unavailable) as caught:
            source.readinto(0, memoryview(bytearray(4096)))
        assert caught.value.reason == "NBD_CONNECTION_LOST"
        source.close()


def test_an_export_is_chosen_by_name_and_an_unknown_one_refused(tmp_path, raw):
    with qemu_nbd(tmp_path, raw, "-r", "-f", "raw") as address:
        with pytest.raises(NotFound) as caught:
            NbdSource(NbdAddress(path=address.path, export="nothing of that name"))
        assert caught.value.reason == "NBD_EXPORT_UNKNOWN"
        with NbdSource(address) as source, pytest.raises(OutOfRange):
            source.readinto(SIZE, memoryview(bytearray(1)))


def _opened(socket) -> NbdSource:
    for _ in range(500):
        try:
            return NbdSource(NbdAddress(path=str(socket)))
        except HyperError:
            time.sleep(0.01)
    pytest.fail("nbdkit does not answer")
