"""convert publishes a whole image or nothing, resumes what was interrupted, and agrees with qemu-img."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
import textwrap

import pytest
from hypersdk.data.digest import ContentDigest
from hypersdk.data.images import FormatRegistry, compare, convert, image_info, image_map, measure, open_image
from hypersdk.data.pipeline import CopyHooks, CopyOptions
from hypersdk.errors import Aborted, Cancelled, InvalidArgument, NotFound, ResourceExhausted, Unsupported
from hypersdk_format_raw import RawFormat

MIB = 1 << 20
EVERY_PIECE = CopyOptions(piece_bytes=65536, checkpoint_bytes=1, checkpoint_seconds=0)

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img: apt install qemu-utils")


@pytest.fixture
def registry():
    return FormatRegistry([RawFormat()])


@pytest.fixture
def disk(tmp_path):
    """8 MiB of virtual size with data in some places, as a sparse file."""
    path = tmp_path / "disk.raw"
    rnd = random.Random(7)
    with path.open("wb") as out:
        for at, length in ((0, 70_000), (2 * MIB, MIB + 512), (5 * MIB + 4096, 300), (8 * MIB - 10, 10)):
            out.seek(at)
            out.write(rnd.randbytes(length))
    return path


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "disk.raw"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_target_holds_the_same_bytes_in_no_more_space_and_is_private(registry, disk, out):
    result = convert(disk, out, registry=registry, dst_format="raw")
    assert out.read_bytes() == disk.read_bytes()
    assert out.stat().st_blocks <= disk.stat().st_blocks
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert names(out.parent) == ["disk.raw"]
    assert result.sink["allocated_bytes"] == out.stat().st_blocks * 512


def test_an_existing_target_is_replaced_whole_and_keeps_its_permissions(registry, disk, out):
    out.write_text("old")
    out.chmod(0o644)
    convert(disk, out, registry=registry, dst_format="raw")
    assert out.read_bytes() == disk.read_bytes()
    assert stat.S_IMODE(out.stat().st_mode) == 0o644


def test_a_failed_conversion_leaves_the_old_target_and_nothing_else(registry, disk, out):
    out.write_text("old")

    def check():
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        convert(disk, out, registry=registry, dst_format="raw", hooks=CopyHooks(check=check))
    assert out.read_text() == "old"
    assert names(out.parent) == ["disk.raw"]


def test_only_a_durable_conversion_waits_for_the_disk(registry, disk, out, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    monkeypatch.setattr(os, "fsync", synced.append)
    convert(disk, out, registry=registry, dst_format="raw", durable=False)
    assert synced == []
    assert out.read_bytes() == disk.read_bytes()
    convert(disk, out, registry=registry, dst_format="raw")
    assert len(synced) == 2


def stop_after(count: int):
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > count:
            raise Cancelled("stopped")

    return check


@pytest.mark.parametrize("stop", [0, 1, 3, 6])
@pytest.mark.parametrize("digested", [False, True])
def test_a_conversion_stopped_anywhere_and_resumed_gives_the_same_bytes(registry, disk, out, stop, digested):
    def once(check):
        digest = ContentDigest(disk.stat().st_size) if digested else None
        convert(
            disk, out, registry=registry, dst_format="raw", resume=True, copy_options=EVERY_PIECE,
            hooks=CopyHooks(check=check, digest=digest, throttle=lambda _: None),
        )  # fmt: skip
        return digest

    with pytest.raises(Cancelled):
        once(stop_after(stop))
    assert not out.exists()
    digest = once(None)
    assert out.read_bytes() == disk.read_bytes()
    assert names(out.parent) == ["disk.raw"]
    if digest is not None:
        leaves = [disk.read_bytes()[at : at + 4 * MIB] for at in (0, 4 * MIB)]
        assert digest.hexdigest() == hashlib.sha256(b"".join(hashlib.sha256(x).digest() for x in leaves)).hexdigest()


def test_a_resumed_conversion_does_not_copy_again_what_is_durable(registry, disk, out):
    arguments = {"registry": registry, "dst_format": "raw", "resume": True, "copy_options": EVERY_PIECE}
    with pytest.raises(Cancelled):
        convert(disk, out, hooks=CopyHooks(check=stop_after(4)), **arguments)
    whole = sum(e["length"] for e in image_map(disk, registry=registry) if e["data"])
    result = convert(disk, out, **arguments)
    assert 0 < result.bytes_written < whole


def test_a_resume_after_the_source_changed_starts_afresh(registry, disk, out):
    arguments = {"registry": registry, "dst_format": "raw", "resume": True, "copy_options": EVERY_PIECE}
    with pytest.raises(Cancelled):
        convert(disk, out, hooks=CopyHooks(check=stop_after(4)), **arguments)
    with disk.open("r+b") as file:
        file.write(b"changed")
    convert(disk, out, **arguments)
    assert out.read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("damage", ["state", "partial", "sink"])
def test_a_damaged_leftover_is_dropped_and_the_conversion_starts_afresh(registry, disk, out, damage):
    arguments = {"registry": registry, "dst_format": "raw", "resume": True, "copy_options": EVERY_PIECE}
    with pytest.raises(Cancelled):
        convert(disk, out, hooks=CopyHooks(check=stop_after(4)), **arguments)
    partial = out.parent / ".disk.raw.partial-hypersdk"
    state = out.parent / ".disk.raw.partial-hypersdk.state"
    if damage == "state":
        state.write_bytes(b"\x00garbage")
    elif damage == "partial":
        os.truncate(partial, 10)
    else:
        state.write_text(state.read_text().replace('"written_end"', '"unknown"'))
    convert(disk, out, **arguments)
    assert out.read_bytes() == disk.read_bytes()
    assert names(out.parent) == ["disk.raw"]


CHILD = """
import os, resource, signal, sys
from hypersdk.data.images import FormatRegistry, convert
from hypersdk.data.pipeline import CopyHooks, CopyOptions
from hypersdk.errors import ResourceExhausted
from hypersdk_format_raw import RawFormat
src, dst, mode = sys.argv[1:]
registry, saved = FormatRegistry([RawFormat()]), []
def checkpoint(offset, state):
    saved.append(offset)
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
if mode == "kill":
    convert(src, dst, registry=registry, dst_format="raw", resume=True, hooks=CopyHooks(checkpoint=checkpoint),
            copy_options=CopyOptions(piece_bytes=65536, checkpoint_bytes=1, checkpoint_seconds=0))
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
try:
    convert(src, dst, registry=registry, dst_format="raw")
except ResourceExhausted as exc:
    print(exc.reason, exc.retryable)
"""


def test_a_process_killed_in_the_middle_leaves_no_target_and_another_finishes_it(registry, disk, out):
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(CHILD), disk, out, "kill"], check=False)
    assert child.returncode == -9
    assert not out.exists()
    result = convert(disk, out, registry=registry, dst_format="raw", resume=True)
    assert out.read_bytes() == disk.read_bytes()
    assert 0 < result.bytes_written < sum(e["length"] for e in image_map(disk, registry=registry) if e["data"])


def test_a_file_size_limit_is_resource_exhausted_and_leaves_nothing(disk, out):
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), disk, out, "limit"], check=True, capture_output=True, text=True
    )
    assert child.stdout.split() == ["FILE_TOO_LARGE", "True"]
    assert names(out.parent) == []


def test_a_full_disk_is_resource_exhausted_and_leaves_nothing(registry, disk, out, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(ResourceExhausted) as caught:
        convert(disk, out, registry=registry, dst_format="raw")
    assert caught.value.reason == "DISK_FULL"
    assert names(out.parent) == []


def test_a_target_that_another_process_is_writing_is_refused(registry, disk, out):
    with (out.parent / ".disk.raw.partial-hypersdk").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for resume in (False, True):
            with pytest.raises(Aborted) as caught:
                convert(disk, out, registry=registry, dst_format="raw", resume=resume)
            assert caught.value.reason == "TARGET_BUSY"
    convert(disk, out, registry=registry, dst_format="raw")
    assert names(out.parent) == ["disk.raw"]


def test_source_and_target_may_not_be_one_file_by_any_name(registry, disk, tmp_path):
    (tmp_path / "link").symlink_to(disk)
    os.link(disk, tmp_path / "hard")
    for name in ("disk.raw", "link", "hard"):
        with pytest.raises(InvalidArgument) as caught:
            convert(disk, tmp_path / name, registry=registry, dst_format="raw")
        assert caught.value.reason == "SAME_FILE"


def test_a_target_that_is_no_file_and_a_folder_that_is_not_there_are_refused(registry, disk, out):
    os.mkfifo(out)
    with pytest.raises(InvalidArgument) as caught:
        convert(disk, out, registry=registry, dst_format="raw")
    assert caught.value.reason == "TARGET_NOT_A_FILE"
    with pytest.raises(NotFound):
        convert(disk, out.parent / "missing" / "x", registry=registry, dst_format="raw")


def test_a_source_that_is_not_there_or_a_fifo_is_refused_at_once(registry, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotFound):
        open_image(tmp_path / "missing", registry=registry)
    with pytest.raises(InvalidArgument):
        open_image(tmp_path / "fifo", registry=registry)


def test_descriptors_do_not_leak_whether_it_works_or_fails(registry, disk, out):
    before = len(os.listdir("/proc/self/fd"))
    convert(disk, out, registry=registry, dst_format="raw")
    with pytest.raises(InvalidArgument):
        convert(disk, out, registry=registry, dst_format="raw", options={"no_such": "1"})
    with pytest.raises(InvalidArgument):
        convert(disk, disk, registry=registry, dst_format="raw")
    image_info(disk, registry=registry, format_name="raw")
    assert len(os.listdir("/proc/self/fd")) == before


def test_info_map_and_measure_tell_what_the_file_holds(registry, disk):
    info = image_info(disk, registry=registry)
    assert info["format"] == "raw"
    assert info["virtual_size"] == info["file_size"] == 8 * MIB
    assert info["actual_size"] == disk.stat().st_blocks * 512
    spans = list(image_map(disk, registry=registry))
    assert sum(s["length"] for s in spans) == 8 * MIB
    assert measure(disk, registry=registry, target_format="raw") == sum(s["length"] for s in spans if s["data"])


def test_a_format_without_a_check_says_so(registry, disk):
    from hypersdk.data.images import check

    with pytest.raises(Unsupported):
        check(disk, registry=registry)


@pytest.mark.peer
@needs_qemu_img
def test_qemu_img_finds_our_raw_image_identical(registry, disk, out):
    convert(disk, out, registry=registry, dst_format="raw")
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", "-s", disk, out], check=True)


@pytest.mark.peer
@needs_qemu_img
def test_compare_agrees_with_qemu_img_about_the_first_difference(registry, disk, out):
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", disk, out], check=True)

    def ours():
        with (
            open_image(disk, registry=registry, format_name="raw") as a,
            open_image(out, registry=registry, format_name="raw") as b,
        ):
            return compare(a, b)

    assert ours() is None
    with out.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"!")
    theirs = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "raw", disk, out], check=False, capture_output=True, text=True
    )
    assert theirs.returncode == 1
    assert f"offset {ours().offset // 512 * 512}!" in theirs.stdout
