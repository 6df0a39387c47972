"""Raw images: any file is one, its holes are its zeros, and a sink goes on after a checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.resources import files
from shutil import which

import pytest
from hypersdk.data.extent import ExtentKind, FileRange
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.pipeline import copy
from hypersdk.errors import FailedPrecondition, InvalidArgument, MalformedImage, OutOfRange
from hypersdk.plugin.manifest import Manifest
from hypersdk_format_raw import RawFormat
from hypothesis import given, settings
from hypothesis import strategies as st

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO
MIB = 1 << 20
RAW = RawFormat()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "disk.raw"


def opened(path, **window):
    return RAW.open(ImageFile.open(path, **window))


def contents(source) -> bytes:
    buffer = bytearray(source.size)
    source.readinto(0, memoryview(buffer))
    return bytes(buffer)


def test_holes_are_zero_extents_and_the_rest_is_data(path):
    with path.open("wb") as out:
        out.seek(MIB)
        out.write(b"x" * 8192)
        out.truncate(3 * MIB + 77)
    with opened(path) as source:
        assert source.size == 3 * MIB + 77
        assert [tuple(e) for e in source.extents()] == [
            (0, MIB, ZERO), (MIB, 8192, DATA), (MIB + 8192, 2 * MIB - 8192 + 77, ZERO),
        ]  # fmt: skip
        assert contents(source) == path.read_bytes()


def test_a_window_of_a_file_is_a_disk_with_its_own_offsets(path):
    path.write_bytes(b"header" + b"a" * 1000 + b"trailer")
    with opened(path, base=6, length=1000) as source:
        assert contents(source) == b"a" * 1000
        assert sum(e.length for e in source.extents()) == 1000
        (found,) = source.file_ranges(10, 20)
        assert os.pread(found.fd, found.length, found.file_offset) == b"a" * 20
        assert found.file_offset == 16


def test_an_empty_file_is_an_empty_disk(path):
    path.write_bytes(b"")
    with opened(path) as source:
        assert source.size == 0
        assert list(source.extents()) == []


def test_reads_outside_the_disk_are_refused(path):
    path.write_bytes(b"x" * 100)
    with opened(path) as source:
        for offset, length in ((-1, 1), (0, 101), (100, 1)):
            with pytest.raises(OutOfRange):
                source.readinto(offset, memoryview(bytearray(length)))
        with pytest.raises(OutOfRange):
            list(source.extents(0, 101))


def test_a_file_that_shrinks_while_open_is_truncated_and_not_zeros(path):
    path.write_bytes(b"x" * 10_000)
    with opened(path) as source:
        os.truncate(path, 5000)
        with pytest.raises(MalformedImage) as caught:
            contents(source)
        assert caught.value.reason == "IMAGE_TRUNCATED"
        assert list(source.extents())[-1].kind == DATA


def test_raw_claims_a_file_only_where_nobody_else_does():
    assert RAW.probe(b"QFI\xfb", b"", 4) == RAW.probe(b"", b"", 0) == 1


PARTS = st.lists(
    st.tuples(st.sampled_from([4096, 65536, 200_000, MIB]), st.sampled_from(["data", "zero", "range"])), max_size=8
)


@settings(max_examples=40, deadline=None)
@given(parts=PARTS, stop=st.integers(0, 8), tail=st.integers(0, 5000))
def test_a_sink_that_goes_on_after_a_checkpoint_ends_with_the_same_bytes(tmp_path_factory, parts, stop, tail):
    folder = tmp_path_factory.mktemp("raw")
    wanted = b"".join(bytes(n) if kind == "zero" else bytes([i + 1]) * n for i, (n, kind) in enumerate(parts))
    wanted += b"e" * tail
    (folder / "wanted").write_bytes(wanted)
    size = len(wanted)
    reference = os.open(folder / "wanted", os.O_RDONLY)
    steps, at = [], 0
    for length, kind in [*parts, *([(tail, "data")] if tail else [])]:
        steps.append((at, length, kind))
        at += length

    def play(sink, steps):
        for offset, length, kind in steps:
            if kind == "zero":
                sink.zero(offset, length)
            elif kind == "range":
                assert sink.write_file_range(offset, FileRange(reference, offset, length))
            else:
                sink.write(offset, wanted[offset : offset + length])

    with ImageFile.create(folder / "out") as file:
        sink = RAW.create(file, size)
        play(sink, steps[:stop])
        state = json.loads(json.dumps(sink.checkpoint()))
        file.pwrite(state["written_end"], b"stale" * 1000)  # lost after the checkpoint
        sink.abort()
    with ImageFile.create(folder / "out", resume=True) as file:
        sink = RAW.create(file, size, resume=state)
        play(sink, steps[stop:])
        facts = sink.finish()
        assert facts["allocated_bytes"] == file.allocated_bytes
    os.close(reference)
    assert (folder / "out").read_bytes() == wanted


def test_zeros_ahead_stay_holes_and_zeros_over_what_was_written_are_zeros(path):
    with ImageFile.create(path) as file:
        sink = RAW.create(file, 8 * MIB)
        sink.zero(0, MIB)
        sink.write(MIB, b"x" * 2 * MIB)
        sink.zero(2 * MIB, 4 * MIB)
        sink.finish()
        assert file.allocated_bytes < 3 * MIB
    assert path.read_bytes() == bytes(MIB) + b"x" * MIB + bytes(6 * MIB)


def test_a_sparse_disk_of_16_tebibytes_is_copied_at_the_cost_of_its_data(path, tmp_path):
    size = 15 << 40  # ext4 ends at 16 TiB less a block
    with path.open("wb") as out:
        try:
            out.truncate(size)
        except OSError:
            size = 1 << 40
            out.truncate(size)
        for at in (0, size // 2, size - 4096):
            out.seek(at)
            out.write(b"d" * 4096)
    with opened(path) as source, ImageFile.create(tmp_path / "copy") as file:
        result = copy(source, RAW.create(file, size))
        assert result.bytes_written == 3 * 4096
        assert [tuple(e) for e in RAW.open(file).extents()] == [tuple(e) for e in opened(path).extents()]


@pytest.mark.parametrize(
    "state",
    [{}, {"written_end": "x", "size": 4096}, {"written_end": -1, "size": 4096}, {"written_end": 4097, "size": 4096},
     {"written_end": 0, "size": 1}, {"written_end": 4096, "size": 4096}],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_the_file_is_refused(path, state):
    with ImageFile.create(path) as file, pytest.raises(FailedPrecondition) as caught:
        RAW.create(file, 4096, resume=state)
    assert caught.value.reason == "RESUME_STATE_INVALID"


def test_preallocation_reserves_the_blocks(path):
    with ImageFile.create(path) as file:
        RAW.create(file, MIB, {"preallocation": "falloc"}).finish()
        assert file.allocated_bytes >= MIB
    assert path.read_bytes() == bytes(MIB)


@pytest.mark.parametrize(
    ("options", "reason"), [({"cluster_size": "1"}, "OPTION_UNKNOWN"), ({"preallocation": "lots"}, "OPTION_INVALID")]
)
def test_wrong_options_name_the_field_and_what_is_known(path, options, reason):
    with ImageFile.create(path) as file, pytest.raises(InvalidArgument, match=r"preallocation|off, falloc") as caught:
        RAW.create(file, 0, options)
    assert caught.value.reason == reason
    assert caught.value.violations[0].field == f"options.{next(iter(options))}"


def test_writes_outside_the_disk_are_refused(path):
    with ImageFile.create(path) as file:
        sink = RAW.create(file, 4096)
        for call in (
            lambda: sink.write(4096, b"x"), lambda: sink.zero(0, 4097), lambda: sink.write(-1, b"x"),
            lambda: sink.write_file_range(0, FileRange(file.fileno(), 0, 5000)),
        ):  # fmt: skip
            with pytest.raises(OutOfRange):
                call()


def test_measure_counts_the_data_or_the_whole_preallocated_disk(path):
    with path.open("wb") as out:
        out.write(b"x" * 4096)
        out.truncate(MIB)
    with opened(path) as source:
        assert RAW.measure(source) == 4096
        assert RAW.measure(source, {"preallocation": "falloc"}) == MIB


def test_the_manifest_describes_this_class():
    manifest = Manifest.parse((files("hypersdk_format_raw") / "manifest.json").read_bytes())
    component = manifest.components[f"format/{RAW.name}"]
    assert manifest.name == "hypersdk-format-raw"
    assert {"read", "write", "resume"} <= component.capabilities


@pytest.mark.peer
@pytest.mark.skipif(which("qemu-img") is None, reason="needs qemu-img: apt install qemu-utils")
def test_qemu_img_maps_our_image_as_we_do(path):
    with ImageFile.create(path) as file:
        sink = RAW.create(file, 8 * MIB)
        sink.write(MIB, b"x" * MIB)
        sink.write(5 * MIB, b"y" * 65536)
        sink.finish()
    told = subprocess.run(
        ["qemu-img", "map", "-f", "raw", "--output=json", path], check=True, capture_output=True, text=True
    )
    theirs = [(s["start"], s["length"], DATA if s["data"] else ZERO) for s in json.loads(told.stdout)]
    with opened(path) as source:
        assert [tuple(e) for e in source.extents()] == theirs
