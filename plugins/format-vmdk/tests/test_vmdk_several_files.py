"""Images of several files: judged by qemu-img and our reader, resumed, and never half there."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry, compare, convert, open_image
from hypersdk.data.images.partial import PartialTarget
from hypersdk.data.pipeline import CopyHooks, CopyOptions
from hypersdk.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    HyperError,
    InvalidArgument,
    ResourceExhausted,
    Unsupported,
)
from hypersdk_format_raw import RawFormat
from hypersdk_format_vmdk import VmdkFormat, split_sink
from hypersdk_format_vmdk.split_sink import LAYOUTS

GIB = 1 << 30
SIZE = 5 * GIB + 1536
EXTENTS = {
    "monolithicFlat": ["a-flat.vmdk"],
    "twoGbMaxExtentSparse": ["a-s001.vmdk", "a-s002.vmdk", "a-s003.vmdk"],
    "twoGbMaxExtentFlat": ["a-f001.vmdk", "a-f002.vmdk", "a-f003.vmdk"],
}
ALL = pytest.mark.parametrize("subformat", list(EXTENTS))
OFTEN = CopyOptions(piece_bytes=65536, checkpoint_bytes=1, checkpoint_seconds=0, threads=1)


@pytest.fixture(scope="module")
def registry():
    return FormatRegistry([RawFormat(), VmdkFormat()])


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """5 GiB and 3 sectors, with data at its ends, over the borders of extents and, in the second one, nowhere else."""
    path = tmp_path_factory.mktemp("disk") / "disk.raw"
    rnd = random.Random(11)
    with path.open("wb") as out:
        out.truncate(SIZE)
        for at, length in ((0, 300_000), (2 * GIB - 70_000, 200_000), (4 * GIB + 4096, 90_000), (SIZE - 700, 700)):
            out.seek(at)
            out.write(rnd.randbytes(length))
    return path


@pytest.fixture
def image(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "a.vmdk"


def names(image):
    return sorted(os.listdir(image.parent))


def same(registry, disk, image):
    with open_image(disk, registry=registry, format_name="raw") as a, open_image(image, registry=registry) as b:
        return compare(a, b) is None


def make(registry, disk, image, subformat, **arguments):
    options = {"subformat": subformat}
    return convert(disk, image, registry=registry, src_format="raw", dst_format="vmdk", options=options, **arguments)


@ALL
@pytest.mark.peer
def test_qemu_img_finds_the_image_clean_and_identical_under_its_own_names(registry, disk, image, subformat, qemu_img):
    facts = make(registry, disk, image, subformat).sink
    assert names(image) == sorted([*EXTENTS[subformat], "a.vmdk"])
    assert facts["siblings"] == EXTENTS[subformat]
    assert facts["file_size"] == image.stat().st_size
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vmdk", disk, image)
    info = qemu_img("info", image)
    assert f"create type: {subformat}" in info
    assert f"({SIZE} bytes)" in info
    if subformat == "twoGbMaxExtentSparse":
        qemu_img("check", image)
    assert same(registry, disk, image)
    with ImageFile.open(image) as file:
        report = VmdkFormat().check(file)
    assert (report.corruptions, report.leaks) == (0, 0)


@ALL
@pytest.mark.peer
def test_the_files_are_laid_out_as_qemu_imgs(registry, disk, image, subformat, qemu_img, tmp_path):
    make(registry, disk, image, subformat)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", disk, theirs / "a.vmdk")
    assert names(image) == names(theirs / "a.vmdk")
    ours, wanted = ([line for line in path.read_text().splitlines() if line.startswith("RW ")]
                    for path in (image, theirs / "a.vmdk"))  # fmt: skip
    assert ours == wanted
    if "Flat" in subformat:
        assert [(image.parent / n).stat().st_size for n in names(image) if "-" in n] == [
            (theirs / n).stat().st_size for n in names(image) if "-" in n
        ]


def stop_after(count):
    left = [count]

    def check():
        left[0] -= 1
        if left[0] < 0:
            raise Cancelled("enough")

    return check


@ALL
@pytest.mark.parametrize("stop", [1, 3, 5, 7])
def test_a_conversion_stopped_anywhere_goes_on_from_its_checkpoint(registry, disk, image, subformat, stop):
    hooks = CopyHooks(check=stop_after(stop))
    with pytest.raises(Cancelled):
        make(registry, disk, image, subformat, resume=True, copy_options=OFTEN, hooks=hooks)
    assert all(name.startswith(".") for name in names(image))
    make(registry, disk, image, subformat, resume=True)
    assert names(image) == sorted([*EXTENTS[subformat], "a.vmdk"])
    assert same(registry, disk, image)


@ALL
def test_an_extent_lost_meanwhile_makes_a_resumed_conversion_begin_anew(registry, disk, image, subformat):
    hooks = CopyHooks(check=stop_after(7))
    with pytest.raises(Cancelled):
        make(registry, disk, image, subformat, resume=True, copy_options=OFTEN, hooks=hooks)
    (image.parent / ".a.vmdk.partial-hypersdk.0001").unlink()
    make(registry, disk, image, subformat, resume=True)
    assert same(registry, disk, image)


CHILD = """
import os, signal, sys
from hypersdk.data.images import FormatRegistry, convert
from hypersdk.data.pipeline import CopyHooks, CopyOptions
from hypersdk_format_raw import RawFormat
from hypersdk_format_vmdk import VmdkFormat
src, dst, subformat, resume = sys.argv[1:]
left = [7]
def check():
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
convert(src, dst, registry=FormatRegistry([RawFormat(), VmdkFormat()]), src_format="raw", dst_format="vmdk",
        options={"subformat": subformat}, resume=bool(resume), hooks=CopyHooks(check=check),
        copy_options=CopyOptions(piece_bytes=65536, checkpoint_bytes=1, checkpoint_seconds=0, threads=1))
"""


@ALL
@pytest.mark.parametrize("resume", ["", "yes"])
def test_a_killed_conversion_leaves_nothing_under_final_names_and_the_next_one_cleans_up(
    registry, disk, image, subformat, resume
):
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(CHILD), disk, image, subformat, resume], check=False)
    assert child.returncode == -signal.SIGKILL
    assert names(image)
    assert all(name.startswith(".a.vmdk.partial-hypersdk") for name in names(image))
    make(registry, disk, image, subformat, resume=bool(resume))
    assert names(image) == sorted([*EXTENTS[subformat], "a.vmdk"])
    assert same(registry, disk, image)


@ALL
def test_a_full_disk_is_resource_exhausted_and_leaves_nothing(registry, disk, image, subformat, monkeypatch):
    real = os.copy_file_range
    calls = [0]

    def full(*arguments):
        calls[0] += 1
        if calls[0] > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    def write_full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    monkeypatch.setattr(os, "pwrite", write_full if subformat == "monolithicFlat" else os.pwrite)
    with pytest.raises(ResourceExhausted) as caught:
        make(registry, disk, image, subformat)
    assert caught.value.reason == "DISK_FULL"
    assert names(image) == []


@ALL
def test_an_image_is_replaced_with_its_extents_but_strangers_are_kept(registry, disk, image, subformat):
    stranger = image.parent / EXTENTS[subformat][-1]
    stranger.write_text("precious")
    with pytest.raises(AlreadyExists):
        make(registry, disk, image, subformat)
    assert names(image) == [stranger.name]
    assert stranger.read_text() == "precious"
    stranger.unlink()
    make(registry, disk, image, subformat)
    make(registry, disk, image, subformat)
    assert same(registry, disk, image)


def test_the_source_is_never_taken_for_an_extent(registry, image):
    source = image.parent / "a-flat.vmdk"
    source.write_bytes(b"s" * 4096)
    image.write_text("old")
    with pytest.raises(InvalidArgument) as caught:
        make(registry, source, image, "monolithicFlat")
    assert caught.value.reason == "SAME_FILE"
    assert source.read_bytes() == b"s" * 4096


@ALL
def test_where_one_file_fits_the_subformats_that_do_are_named(tmp_path, subformat):
    with ImageFile.create(tmp_path / "a.vmdk") as file, pytest.raises(Unsupported) as caught:
        VmdkFormat().create(file, 1 << 20, {"subformat": subformat})
    assert caught.value.reason == "SUBFORMAT_UNSUPPORTED"
    assert "monolithicSparse, streamOptimized" in caught.value.message


@pytest.mark.parametrize("name", ['we"ird.vmdk', "größe.vmdk", "no-extension", "two.dots.vmdk", ".vmdk"])
def test_every_name_of_an_image_gives_extents_that_can_be_read(registry, tmp_path, name):
    (tmp_path / "disk.raw").write_bytes(b"x" * 70_000)
    make(registry, tmp_path / "disk.raw", tmp_path / name, "twoGbMaxExtentSparse")
    assert same(registry, tmp_path / "disk.raw", tmp_path / name)


def test_a_disk_of_too_many_extents_is_refused_before_anything_is_made(tmp_path):
    partial = PartialTarget(tmp_path / "a.vmdk")
    file, _ = partial.begin({}, resume=False)
    with pytest.raises(InvalidArgument) as caught:
        VmdkFormat().create(file, 16 << 40, {"subformat": "twoGbMaxExtentFlat"})
    assert caught.value.reason == "IMAGE_SIZE_INVALID"
    assert "monolithicFlat" in caught.value.message
    sink = VmdkFormat().create(file, 16 << 40, {"subformat": "monolithicFlat"})
    sink.abort()
    partial.discard(keep=False)
    assert os.listdir(tmp_path) == []


def test_one_extent_is_open_at_a_time(tmp_path, monkeypatch):
    layout = LAYOUTS["twoGbMaxExtentSparse"]._replace(span=1 << 20)
    monkeypatch.setitem(split_sink.LAYOUTS, "twoGbMaxExtentSparse", layout)
    partial = PartialTarget(tmp_path / "a.vmdk")
    file, _ = partial.begin({}, resume=False)
    sink = VmdkFormat().create(file, 300 << 20, {"subformat": "twoGbMaxExtentSparse"})
    before = len(os.listdir("/proc/self/fd"))
    sink.write(299 << 20, b"x" * 65536)
    assert len(os.listdir("/proc/self/fd")) == before
    sink.finish()
    partial.publish()
    assert len(os.listdir(tmp_path)) == 301


def test_extents_are_written_in_order_and_once(tmp_path):
    partial = PartialTarget(tmp_path / "a.vmdk")
    file, _ = partial.begin({}, resume=False)
    sink = VmdkFormat().create(file, 5 * GIB, {"subformat": "twoGbMaxExtentFlat"})
    sink.write(2 * GIB, b"x" * 4096)
    with pytest.raises(FailedPrecondition) as caught:
        sink.write(0, b"x" * 4096)
    assert caught.value.reason == "WRITE_OUT_OF_ORDER"
    state = sink.checkpoint()
    sink.abort()
    partial.save({}, state)
    partial.discard(keep=True)
    wrong = ({"extent": 9}, {"part": None}, {"size": 1}, {"allocated": -1})
    for broken in ({}, *({**state, **change} for change in wrong)):
        file, _ = partial.begin({}, resume=True)
        with pytest.raises((Aborted, HyperError)):
            VmdkFormat().create(file, 5 * GIB, {"subformat": "twoGbMaxExtentFlat"}, broken)
        file.close()
    partial.discard(keep=False)


def test_zeroed_grains_may_be_allowed_in_every_sparse_extent(registry, disk, image):
    options = {"subformat": "twoGbMaxExtentSparse", "zeroed_grain": "on"}
    convert(disk, image, registry=registry, src_format="raw", dst_format="vmdk", options=options)
    assert (image.parent / "a-s002.vmdk").read_bytes()[4:8] == (2).to_bytes(4, "little")
    assert same(registry, disk, image)
