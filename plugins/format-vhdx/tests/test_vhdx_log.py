"""Images that were not closed: the log is replayed in memory, as the specification and QEMU do it on disk."""

from __future__ import annotations

import json
import random
import shutil
import time
import uuid

import pytest
from hypersdk.errors import HyperError, MalformedImage, Unsupported
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MIB = 1 << 20
SECTOR = 4096
NEW = bytes(range(256)) * 16
OLD = b"\x11" * MIB


@pytest.fixture
def dirty(make, images):
    """An image of 3 MiB whose first block holds OLD, with these bytes in its log."""

    def build(log: bytes, **more):
        return images.put(make.image(3 * MIB, {0: (6, OLD)}, log=log, **more))

    return build


def with_sector(data: bytes, number: int, sector: bytes) -> bytes:
    return data[: number * SECTOR] + sector + data[(number + 1) * SECTOR :]


def ring(*placed: tuple[int, bytes]) -> bytes:
    """A log of 1 MiB with entries at these offsets, around its end where they do not fit."""
    out = bytearray(MIB)
    for at, entry in placed:
        for index in range(0, len(entry), SECTOR):
            where = (at + index) % MIB
            out[where : where + SECTOR] = entry[index : index + SECTOR]
    return bytes(out)


BASE = OLD + bytes(2 * MIB)


def test_a_payload_sector_in_the_log_is_seen_and_the_file_is_left_alone(make, images, dirty):
    path = dirty(make.log_entry(5, 0, [(make.payload_at + 2 * SECTOR, NEW)]))
    before = path.read_bytes()
    assert images.read(path) == with_sector(BASE, 2, NEW)
    with images.open(path) as source:
        assert source.info()["dirty"] is True
        assert source.info()["details"]["log_entries_replayed"] == 1
        assert source.file_ranges(0, SECTOR) is not None
        assert source.file_ranges(SECTOR, 2 * SECTOR) is None
        part = bytearray(3000)
        source.readinto(2 * SECTOR - 1000, memoryview(part))
        assert part == OLD[:1000] + NEW[:2000]
    assert path.read_bytes() == before


def test_a_block_that_only_the_log_allocates_is_read(make, images, dirty):
    """As a crash leaves it: payload flushed behind the end, the table's new sector in the log."""
    bat = bytearray(make.image(3 * MIB, {0: (6, OLD)})[make.bat_at : make.bat_at + SECTOR])
    bat[8:16] = (make.payload_at + MIB | 6).to_bytes(8, "little")
    path = dirty(make.log_entry(1, 0, [(make.bat_at, bytes(bat))], flushed=make.payload_at + MIB))
    path.write_bytes(path.read_bytes() + b"\x22" * MIB)
    assert images.read(path) == OLD + b"\x22" * MIB + bytes(MIB)
    assert images.check(path).corruptions == 0


def test_the_file_grows_in_memory_to_what_the_log_says(make, images, dirty):
    bat = bytearray(make.image(3 * MIB, {0: (6, OLD)})[make.bat_at : make.bat_at + SECTOR])
    bat[8:16] = (make.payload_at + MIB | 6).to_bytes(8, "little")
    changes = [(make.bat_at, bytes(bat)), (make.payload_at + MIB + SECTOR, NEW)]
    path = dirty(make.log_entry(1, 0, changes, last=make.payload_at + 2 * MIB))
    assert images.read(path) == OLD + with_sector(bytes(MIB), 1, NEW) + bytes(MIB)


def test_zero_descriptors_and_later_entries_win_in_order(make, images, dirty):
    at = make.payload_at
    first = make.log_entry(7, 0, [(at, NEW), (at + SECTOR, NEW), (at + 8 * SECTOR, 4 * SECTOR)])
    second = make.log_entry(8, 0, [(at + SECTOR, 3 * SECTOR), (at + 2 * SECTOR, NEW), (at + 9 * SECTOR, NEW)])
    wanted = with_sector(BASE, 0, NEW)
    for number in (1, 3, 8, 10, 11):
        wanted = with_sector(wanted, number, bytes(SECTOR))
    for number in (2, 9):
        wanted = with_sector(wanted, number, NEW)
    assert images.read(dirty(first + second)) == wanted


def test_only_entries_from_the_tail_on_are_replayed(make, images, dirty):
    first = make.log_entry(7, 0, [(make.payload_at, NEW)])
    second = make.log_entry(8, len(first), [(make.payload_at + SECTOR, NEW)])
    assert images.read(dirty(first + second)) == with_sector(BASE, 1, NEW)


def test_a_sequence_that_wraps_around_the_end_of_the_ring_is_followed(make, images, dirty):
    start = MIB - 3 * SECTOR
    one = make.log_entry(2**33 + 5, start, [(make.payload_at, NEW)])
    two = make.log_entry(2**33 + 6, start, [(make.payload_at + SECTOR * n, NEW) for n in (1, 2, 3)])
    assert len(one) == 2 * SECTOR
    path = dirty(ring((start, one), (start + len(one), two)))
    wanted = BASE
    for number in range(4):
        wanted = with_sector(wanted, number, NEW)
    assert images.read(path) == wanted


def test_the_sequence_with_the_highest_number_is_active(make, images, dirty):
    old = make.log_entry(3, 0, [(make.payload_at, NEW)])
    new = make.log_entry(9, 65536, [(make.payload_at + SECTOR, NEW)])
    assert images.read(dirty(ring((0, old), (65536, new)))) == with_sector(BASE, 1, NEW)


@pytest.mark.parametrize("where", [4, 8, 16, 24, 64, 80, 100, SECTOR + 2, SECTOR + 100, 2 * SECTOR - 1])
def test_a_torn_last_entry_is_no_part_of_the_sequence(make, images, dirty, where):
    good = make.log_entry(7, 0, [(make.payload_at, NEW)])
    torn = bytearray(make.log_entry(8, 0, [(make.payload_at + SECTOR, NEW)]))
    torn[where] ^= 0x40
    assert images.read(dirty(good + bytes(torn))) == with_sector(BASE, 0, NEW)


@pytest.mark.parametrize(
    "log",
    [
        lambda make: b"\0" * 4096,
        lambda make: make.log_entry(1, 0, [(make.payload_at, NEW)], guid=uuid.UUID(int=99)),
        lambda make: make.log_entry(0, 0, [(make.payload_at, NEW)]),
        lambda make: make.log_entry(4, 8192, [(make.payload_at, NEW)]),
        lambda make: make.log_entry(4, 0, [(make.payload_at + 512, NEW)]),
        lambda make: make.log_entry(4, 0, [(make.payload_at, 100)]),
        lambda make: make.log_entry(4, 0, [(0, NEW)]),
        lambda make: make.log_entry(4, 0, [(65536, 4096)]),
        lambda make: make.log_entry(4, 0, [(make.log_at, NEW)]),
        lambda make: make.log_entry(4, 0, [(make.payload_at, (1 << 64) - 4096)]),
        lambda make: make.log_entry(4, 0, [(make.payload_at, NEW)], last=1 << 63),
    ],
    ids=["empty", "another GUID", "number 0", "tail elsewhere", "unaligned", "unaligned zeros", "magic", "header",
         "the log itself", "endless zeros", "endless file"],
)  # fmt: skip
def test_a_log_without_a_sound_sequence_is_refused(make, images, dirty, log):
    with pytest.raises(MalformedImage) as caught:
        images.read(dirty(log(make)))
    assert caught.value.reason == "LOG_CORRUPT"
    assert caught.value.structure == "log"


def test_a_file_shorter_than_when_its_log_was_written_is_truncated(make, images, dirty):
    with pytest.raises(MalformedImage) as caught:
        images.read(dirty(make.log_entry(4, 0, [(make.payload_at, NEW)], flushed=1 << 30)))
    assert caught.value.reason == "IMAGE_TRUNCATED"


def test_a_dirty_log_that_is_too_large_and_a_log_of_another_version_are_refused_by_name(make, images):
    large = make.header(2, log_guid=make.log_guid, log_length=128 * MIB, log_offset=64 * MIB)
    other = make.header(2, log_guid=make.log_guid, log_version=1)
    for header, reason in ((large, "LOG_TOO_LARGE"), (other, "VERSION_UNSUPPORTED")):
        with pytest.raises(Unsupported) as caught:
            images.open(images.put(make.image(MIB, {}, headers=(make.header(1), header))))
        assert caught.value.reason == reason


def test_a_log_full_of_heads_that_claim_all_of_it_is_judged_quickly(make, images, dirty):
    """Each head claims the whole ring; summing each up would take a minute."""
    head = bytearray(make.log_entry(1, 0, [(make.payload_at + n * SECTOR, NEW) for n in range(250)])[:SECTOR])
    log = b"".join(bytes(head) for _ in range(MIB // SECTOR))
    started = time.process_time()
    with pytest.raises(MalformedImage):
        images.read(dirty(log))
    assert time.process_time() - started < 1.0


def test_many_overlapping_zero_descriptors_are_replayed_quickly(make, images, dirty):
    changes = [(make.payload_at + n * SECTOR, (1 << 40) - n * SECTOR) for n in range(30_000)]
    started = time.process_time()
    path = dirty(make.log_entry(1, 0, changes))
    assert images.read(path) == bytes(3 * MIB)
    assert time.process_time() - started < 2.0


def test_an_entry_with_several_sectors_of_descriptors_is_replayed(make, images, dirty):
    changes = [(make.payload_at + n * SECTOR, bytes([n + 1]) * SECTOR) for n in range(200)]
    wanted = b"".join(data for _, data in changes) + BASE[200 * SECTOR :]
    assert images.read(dirty(make.log_entry(1, 0, changes))) == wanted


def random_log(make, seed: int, start: int) -> tuple[bytes, bytes]:
    """A log of six entries from byte `start` of the ring on, and the disk that it makes, by applying each in order."""
    pick = random.Random(seed)
    placed, at, disk = [], start, bytearray(BASE)
    for sequence in range(40, 46):
        changes: list[tuple[int, bytes | int]] = []
        for _ in range(pick.choice([1, 3, 35])):
            sector = pick.randrange(200)
            what = pick.choice([pick.randbytes(SECTOR), SECTOR * 3])
            changes.append((make.payload_at + sector * SECTOR, what))
            data = bytes(what) if isinstance(what, int) else what
            disk[sector * SECTOR : sector * SECTOR + len(data)] = data
        entry = make.log_entry(sequence, start, changes, flushed=make.payload_at + MIB, last=make.payload_at + MIB)
        placed.append((at % MIB, entry))
        at += len(entry)
    assert at - start <= MIB
    return ring(*placed), bytes(disk)


@pytest.mark.parametrize("start", [0, 44 * SECTOR, MIB - SECTOR, MIB - 5 * SECTOR, MIB - 40 * SECTOR])
@pytest.mark.parametrize("seed", range(4))
def test_any_log_has_the_effect_of_its_entries_in_order(make, images, dirty, seed, start):
    log, wanted = random_log(make, seed, start)
    assert images.read(dirty(log)) == wanted


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(4))
def test_qemu_replays_to_the_same_content(make, images, dirty, tool, seed, tmp_path):
    """QEMU replays on disk, so on a copy. Two things are left out that QEMU 7.2 cannot do: entries of more than 126
    descriptors, and sequences around the end of the ring, of which it drops the entries before the end."""
    log, wanted = random_log(make, seed, (0, 44, 7, 100)[seed] * SECTOR)
    path = dirty(log)
    assert images.read(path) == wanted
    shutil.copy(path, tmp_path / "copy.vhdx")
    tool("qemu-img", "check", "-r", "all", "copy.vhdx")
    tool("qemu-img", "convert", "-O", "raw", "copy.vhdx", "copy.raw")
    assert (tmp_path / "copy.raw").read_bytes() == wanted
    assert images.read(tmp_path / "copy.vhdx") == wanted
    with images.open(tmp_path / "copy.vhdx") as source:
        assert source.info()["dirty"] is False


def test_what_info_says_of_a_dirty_image_is_json(make, images, dirty):
    with images.open(dirty(make.log_entry(1, 0, [(make.payload_at, NEW)]))) as source:
        assert json.loads(json.dumps(source.info()))["details"]["creator"] == "by hand"


@settings(
    max_examples=80, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    where=st.integers(8, 64 + 3 * 32 - 1), data=st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8))
)
def test_any_entry_behind_a_right_checksum_is_replayed_or_refused_soon(make, images, dirty, where, data):
    entry = make.log_entry(7, 0, [(make.payload_at, NEW), (make.payload_at + SECTOR, SECTOR), (make.payload_at, NEW)])
    damaged = make.summed((entry[:where] + data + entry[where + len(data) :])[: len(entry)])
    started = time.process_time()
    try:
        images.read(dirty(damaged))
    except HyperError as exc:
        assert exc.reason in {"LOG_CORRUPT", "IMAGE_TRUNCATED", "IMAGE_MALFORMED"}
    assert time.process_time() - started < 1.0


def test_damage_anywhere_in_the_log_reads_as_before_or_after_or_is_refused(make, images, dirty):
    good = make.log_entry(7, 0, [(make.payload_at, NEW)]) + make.log_entry(8, 0, [(make.payload_at, SECTOR)])
    outcomes = {with_sector(BASE, 0, NEW), with_sector(BASE, 0, bytes(SECTOR))}
    for where in range(0, len(good), 97):
        log = bytearray(good)
        log[where] ^= 0xFF
        try:
            assert images.read(dirty(bytes(log))) in outcomes
        except HyperError as exc:
            assert exc.reason == "LOG_CORRUPT"
