"""The parts that can be judged alone: checksum, overlay, resuming, options."""

from __future__ import annotations

import random
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import Aborted, FailedPrecondition, InvalidArgument, OutOfRange
from hypersdk_format_vhdx import VhdxFormat
from hypersdk_format_vhdx.crc32c import crc32c
from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.options import parse_create
from hypersdk_format_vhdx.replay import Update, latest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MIB = 1 << 20
FORMAT = VhdxFormat()


def crc_bit_by_bit(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_the_checksum_is_crc_32c():
    assert crc_bit_by_bit(b"123456789") == 0xE3069283  # the check value of the CRC catalogues
    for length in (256, 512, 768, 4096, 12288):
        data = random.Random(length).randbytes(length)
        assert crc32c(data) == crc_bit_by_bit(data)


def test_the_checksum_of_long_data_continues_that_of_its_parts():
    """Lanes of 256 bytes and chunks of a MiB give what short lanes do, which the test above holds to the definition."""
    data = random.Random(1).randbytes(3 * 4096)
    assert crc32c(bytes(65536)) != crc32c(bytes(131072))
    zeros = bytes(MIB + 256)
    expected = 0xFFFFFFFF
    table = [crc_bit_by_bit_table(n) for n in range(256)]
    for byte in data + zeros:
        expected = table[(expected ^ byte) & 255] ^ expected >> 8
    assert crc32c(data + zeros) == expected ^ 0xFFFFFFFF


def crc_bit_by_bit_table(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=25))
def test_the_latest_update_of_each_place_wins(spans):
    updates = [Update(at, at + n, (bytes([i]), memoryview(b""), b"")) for i, (at, n) in enumerate(spans)]
    expected: dict[int, int] = {}
    for number in reversed(range(len(spans))):  # newest comes first
        start, length = spans[number]
        expected.update(dict.fromkeys(range(start, start + length), number))
    found = latest(updates)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert {at: u.sector[0][0] for u in found if u.sector for at in range(u.start, u.end)} == expected


def test_the_table_has_room_for_bitmaps_as_the_specification_counts():
    assert Geometry(1 << 40, MIB).chunk_ratio == 4096
    assert Geometry(1 << 40, 256 * MIB, 4096).chunk_ratio == 128
    assert Geometry(4096 * MIB, MIB).entries == 4096
    assert Geometry(4097 * MIB, MIB).entries == 4098
    assert Geometry(4097 * MIB, MIB, has_parent=True).entries == 2 * 4097
    assert Geometry(4097 * MIB, MIB).entry_of(4096) == 4097


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 40), st.sampled_from(["go on", "checkpoint", "die"])), max_size=10
    ),
    options=st.sampled_from([{"block_size": "1M"}, {"block_size": "2M", "block_state_zero": "off"},
                             {"subformat": "fixed", "block_size": "1M"}]),
    tail=st.integers(0, 511),
)  # fmt: skip
def test_any_extents_with_any_interruptions_come_back_and_check_clean(steps, options, tail):
    unit, at, plan = 65536, 0, []
    for number, (gap, count, then) in enumerate(steps):
        at += gap * unit
        plan.append((at, bytes([number + 1]) * (count * unit), then))
        at += count * unit
    size = max(at + tail, 1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.vhdx"
        file = ImageFile.create(path)
        sink = FORMAT.create(file, size, options)
        state, undone = None, []
        for offset, data, then in plan:
            undone.append((offset, data))
            sink.write(offset, data)
            if then == "checkpoint":
                state, undone = sink.checkpoint(), []
            if then == "die" and state is not None:
                file.close()
                file = ImageFile.create(path, resume=True)
                sink = FORMAT.create(file, size, options, state)
                for piece in undone:
                    sink.write(*piece)
        sink.finish()
        file.close()
        with ImageFile.open(path) as file:
            report = FORMAT.check(file)
            assert (report.corruptions, report.leaks) == (0, 0), report.messages
        with FORMAT.open(ImageFile.open(path)) as source:
            buffer = bytearray(source.size)
            source.readinto(0, memoryview(buffer))
    for offset, data, _ in plan:
        assert buffer[offset : offset + len(data)] == data
        buffer[offset : offset + len(data)] = bytes(len(data))
    assert not any(buffer)


def test_a_file_that_was_not_finished_is_no_image(tmp_path):
    path = tmp_path / "a.vhdx"
    with ImageFile.create(path) as file:
        sink = FORMAT.create(file, 3 * MIB)
        sink.write(0, b"x" * MIB)
        sink.checkpoint()
    assert FORMAT.probe(path.read_bytes()[:4096], b"", path.stat().st_size) == 0


def test_checkpoints_of_other_disks_and_shorter_files_are_refused(tmp_path):
    with ImageFile.create(tmp_path / "a") as file:
        sink = FORMAT.create(file, 30 * MIB)
        sink.write(0, b"x" * 9 * MIB)
        state = sink.checkpoint()
        for wrong in ({"size": 5}, {"next": -1}, {"count": True}, {"version": 2}, {"last": None}):
            with pytest.raises(InvalidArgument) as caught:
                FORMAT.create(file, 30 * MIB, None, {**state, **wrong})
            assert caught.value.reason == "RESUME_STATE_INVALID"
        with pytest.raises(InvalidArgument):
            FORMAT.create(file, 30 * MIB, {"block_size": "1M"}, state)
        file.truncate(4 * MIB)
        with pytest.raises(Aborted):
            FORMAT.create(file, 30 * MIB, None, state)


def test_a_sink_refuses_what_breaks_its_order_or_its_end(tmp_path):
    with ImageFile.create(tmp_path / "a") as file:
        sink = FORMAT.create(file, 3 * MIB)
        sink.write(MIB, b"x" * MIB)
        with pytest.raises(FailedPrecondition):
            sink.write(0, b"x" * MIB)
        with pytest.raises(OutOfRange):
            sink.write(3 * MIB, b"x")
        sink.finish()
        with pytest.raises(FailedPrecondition):
            sink.finish()


def test_options_have_qemu_imgs_syntax_and_limits():
    assert parse_create({"block_size": "2M"}) == parse_create({"block_size": "2048K"})
    assert parse_create({"block_size": "0"}) == parse_create({})
    for wrong in ({"block_size": "3M"}, {"block_size": "512M"}, {"block_size": "512k"}, {"log_size": "1025k"},
                  {"log_size": "4G"}, {"log_size": "0"}, {"subformat": "thin"}, {"block_state_zero": "perhaps"},
                  {"block_size": "big"}):  # fmt: skip
        with pytest.raises(InvalidArgument) as caught:
            parse_create(wrong)
        assert caught.value.reason == "OPTION_INVALID"
    file = ImageFile.open(__file__)
    with pytest.raises(InvalidArgument):
        FORMAT.open(file, {"snapshot": "1"})
    assert file.fileno() == -1, "closed, though it was not opened"


@pytest.mark.parametrize("size", [0, -1, (64 << 40) + 1])
def test_disks_of_impossible_sizes_are_refused(tmp_path, size):
    with ImageFile.create(tmp_path / "a") as file, pytest.raises(InvalidArgument) as caught:
        FORMAT.create(file, size)
    assert caught.value.reason == "IMAGE_SIZE_INVALID"
    assert (tmp_path / "a").stat().st_size == 0
