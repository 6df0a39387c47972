"""Conversions from end to end, in this process: formats, refusals, kills and resumption."""

import errno
import hashlib
import os
import shutil
import subprocess

import pytest
from hypersdk.data import transfer
from hypersdk.errors import (
    AlreadyExists,
    Cancelled,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from hypersdk.testing import Killed, LocalTaskContext
from hypersdk_task_convert import ConvertTask

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    block = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(MIB // 32))
    (path / "a.raw").write_bytes(block * 3 + bytes(8 * MIB) + block + bytes(2 * MIB))
    return path


@pytest.fixture
def make_context(folder, tmp_path):
    def make(**spec):
        base = {"source_path": str(folder / "a.raw"), "target_path": str(folder / "b.qcow2"), "format": "qcow2"}
        return LocalTaskContext({**base, **spec}, tmp_path / "scratch", job="jobs/j1")

    return make


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every piece."""
    monkeypatch.setattr(transfer, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(transfer, "CHECKPOINT_SECONDS", 0.0)


def names(folder):
    return sorted(os.listdir(folder))


def same_content(a, b):
    with a.open_image(b) as source, a.open_image(b.with_name("a.raw"), "raw") as wanted:
        left, right = bytearray(source.size), bytearray(wanted.size)
        source.readinto(0, memoryview(left))
        wanted.readinto(0, memoryview(right))
        return left == right


@pytest.mark.peer
@pytest.mark.parametrize("image_format", ["qcow2", "vmdk", "raw"])
@pytest.mark.parametrize("source_format", ["raw", ""])
def test_qemu_img_finds_the_same_content(make_context, folder, image_format, source_format):
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not there: apt-get install qemu-utils")
    target = folder / "t.img"
    context = make_context(target_path=str(target), format=image_format, source_format=source_format)
    result = ConvertTask().run(context)
    compare = ["qemu-img", "compare", "-f", "raw", "-F", image_format, str(folder / "a.raw"), str(target)]
    subprocess.run(compare, check=True)
    assert result["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert result["content"]["sha256"] == hashlib.sha256((folder / "a.raw").read_bytes()).hexdigest()
    assert names(folder) == ["a.raw", "t.img"]
    assert context.unreleased() == set()


def test_an_existing_target_is_kept_unless_it_may_be_overwritten(make_context, folder):
    (folder / "b.qcow2").write_bytes(b"precious")
    (folder / "b.qcow2").chmod(0o640)
    with pytest.raises(AlreadyExists) as caught:
        ConvertTask().run(make_context())
    assert caught.value.reason == "TARGET_EXISTS"
    assert (folder / "b.qcow2").read_bytes() == b"precious"
    context = make_context(overwrite=True)
    ConvertTask().run(context)
    assert same_content(context, folder / "b.qcow2")
    assert (folder / "b.qcow2").stat().st_mode & 0o777 == 0o640


def test_a_target_that_appears_meanwhile_is_kept(make_context, folder):
    context = make_context()
    context.on_check = lambda: (folder / "b.qcow2").write_bytes(b"precious")
    with pytest.raises(AlreadyExists):
        ConvertTask().run(context)
    assert (folder / "b.qcow2").read_bytes() == b"precious"
    assert names(folder) == ["a.raw", "b.qcow2"]


@pytest.mark.parametrize("how", ["same name", "link", "hard link"])
def test_the_source_is_never_the_target(make_context, folder, how):
    target = folder / "a.raw"
    if how == "link":
        target = folder / "link"
        target.symlink_to(folder / "a.raw")
    elif how == "hard link":
        target = folder / "hard"
        os.link(folder / "a.raw", target)
    with pytest.raises(InvalidArgument) as caught:
        ConvertTask().run(make_context(target_path=str(target), overwrite=True))
    assert caught.value.reason == "SAME_FILE"


def test_impossible_paths_are_told(make_context, folder):
    with pytest.raises(FailedPrecondition) as missing:
        ConvertTask().run(make_context(target_path=str(folder / "no" / "dir")))
    assert missing.value.reason == "TARGET_DIRECTORY_MISSING"
    with pytest.raises(InvalidArgument) as directory:
        ConvertTask().run(make_context(target_path=str(folder), overwrite=True))
    assert directory.value.reason == "TARGET_NOT_A_FILE"
    with pytest.raises(NotFound):
        ConvertTask().run(make_context(source_path=str(folder / "nothing")))
    with pytest.raises(InvalidArgument):
        ConvertTask().run(make_context(source_path="a.raw"))
    assert names(folder) == ["a.raw"]


def test_a_killed_conversion_goes_on_and_leaves_nothing_else(make_context, folder, often):
    context = make_context()
    context.kill_after_checkpoints = 2
    with pytest.raises(Killed):
        ConvertTask().run(context)
    assert "b.qcow2" not in names(folder)
    last = context.next_attempt()
    result = ConvertTask().run(last)
    assert result["bytes_read"] < 14 * MIB
    assert same_content(last, folder / "b.qcow2")
    assert names(folder) == ["a.raw", "b.qcow2"]
    assert last.unreleased() == set()


@pytest.mark.parametrize("save", range(1, 6))
def test_a_kill_right_after_any_checkpoint_is_survived(make_context, folder, often, save):
    context = make_context()
    context.kill_after_checkpoints = save
    try:
        ConvertTask().run(context)
    except Killed:
        context = context.next_attempt()
        ConvertTask().run(context)
    assert same_content(context, folder / "b.qcow2")
    assert names(folder) == ["a.raw", "b.qcow2"]
    assert context.unreleased() == set()


def test_an_attempt_after_the_publication_only_reports_it(make_context, folder):
    context = make_context()
    first = ConvertTask().run(context)
    again = ConvertTask().run(context.next_attempt())
    assert again["sha256"] == first["sha256"]
    assert "bytes_read" not in again


def test_a_source_that_changed_between_attempts_is_read_from_the_start(make_context, folder, often):
    context = make_context()
    context.kill_after_checkpoints = 2
    with pytest.raises(Killed):
        ConvertTask().run(context)
    (folder / "a.raw").write_bytes((folder / "a.raw").read_bytes()[::-1])
    last = context.next_attempt()
    ConvertTask().run(last)
    assert same_content(last, folder / "b.qcow2")


def test_a_source_that_changes_while_it_is_read_is_not_published(make_context, folder):
    context = make_context()
    context.on_check = lambda: os.utime(folder / "a.raw", ns=(1, 1))
    with pytest.raises(FailedPrecondition) as caught:
        ConvertTask().run(context)
    assert caught.value.reason == "SOURCE_CHANGED"
    assert names(folder) == ["a.raw"]


def test_a_cancelled_conversion_leaves_nothing(make_context, folder):
    context = make_context()
    context.on_check = context.cancel
    with pytest.raises(Cancelled):
        ConvertTask().run(context)
    assert names(folder) == ["a.raw"]
    assert context.unreleased() == set()


def test_a_full_disk_is_retryable_and_the_file_waits_for_the_next_attempt(make_context, folder, monkeypatch):
    context = make_context()
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(ResourceExhausted) as caught:
        ConvertTask().run(context)
    monkeypatch.undo()
    assert caught.value.retryable
    last = context.next_attempt()
    ConvertTask().run(last)
    assert same_content(last, folder / "b.qcow2")
    assert names(folder) == ["a.raw", "b.qcow2"]


def test_an_image_that_reads_back_differently_is_not_published(make_context, folder, monkeypatch):
    from hypersdk.data import readback

    monkeypatch.setattr(readback._Tapped, "readinto", lambda self, offset, buffer: self._digest.update(offset, buffer))
    with pytest.raises(DataLoss) as caught:
        ConvertTask().run(make_context())
    assert caught.value.reason == "VERIFY_MISMATCH"
    assert names(folder) == ["a.raw"]


def test_cleanup_removes_the_file_of_a_dead_runner_and_nothing_else(make_context, folder, often):
    context = make_context()
    context.kill_after_checkpoints = 1
    with pytest.raises(Killed):
        ConvertTask().run(context)
    (entry,) = context.held.values()
    assert entry["component"] == "task/convert"
    ConvertTask().cleanup(entry["record"])
    ConvertTask().cleanup(entry["record"])
    assert names(folder) == ["a.raw"]
    for path in (folder / "a.raw", "relative/.x.hypersdk-j1"):
        with pytest.raises(InvalidArgument):
            ConvertTask().cleanup({"partial": os.fsencode(path).hex()})
    assert names(folder) == ["a.raw"]


def test_a_name_of_255_bytes_can_be_a_target(make_context, folder):
    target = folder / ("x" * 255)
    ConvertTask().run(make_context(target_path=str(target)))
    assert target.exists()


SEVERAL = {
    "monolithicFlat": ["b-flat.vmdk"],
    "twoGbMaxExtentSparse": ["b-s001.vmdk"],
    "twoGbMaxExtentFlat": ["b-f001.vmdk"],
}
each_subformat = pytest.mark.parametrize("subformat", list(SEVERAL))


@pytest.fixture
def make_several(make_context, folder):
    """A context for an image of several files, named b.vmdk."""

    def make(subformat, **spec):
        spec = {"target_path": str(folder / "b.vmdk"), "format": "vmdk", "options": {"subformat": subformat}, **spec}
        return make_context(**spec)

    return make


@each_subformat
def test_every_file_of_an_image_is_named_with_its_digest(make_several, folder, subformat):
    context = make_several(subformat)
    result = ConvertTask().run(context)
    assert names(folder) == ["a.raw", *SEVERAL[subformat], "b.vmdk"]
    assert result["sha256"] == hashlib.sha256((folder / "b.vmdk").read_bytes()).hexdigest()
    (sibling,) = result["siblings"]
    path = folder / SEVERAL[subformat][0]
    assert sibling["path"] == str(path)
    assert sibling["size_bytes"] == path.stat().st_size
    assert sibling["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["content"]["sha256"] == hashlib.sha256((folder / "a.raw").read_bytes()).hexdigest()
    assert same_content(context, folder / "b.vmdk")
    assert context.unreleased() == set()
    again = ConvertTask().run(context.next_attempt())
    assert again["siblings"] == result["siblings"]


@each_subformat
@pytest.mark.parametrize("save", [1, 2, 4, 9, 17, 18])
def test_a_kill_leaves_no_file_under_its_name_and_is_survived(make_several, folder, often, subformat, save):
    context = make_several(subformat)
    context.kill_after_checkpoints = save
    try:
        ConvertTask().run(context)
    except Killed:
        assert not any(name.startswith("b") for name in names(folder))
        context = context.next_attempt()
        ConvertTask().run(context)
    assert names(folder) == ["a.raw", *SEVERAL[subformat], "b.vmdk"]
    assert same_content(context, folder / "b.vmdk")
    assert context.unreleased() == set()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_while_names_are_given_is_survived(make_several, folder, monkeypatch, overwrite):
    from hypersdk_task_convert import target

    if overwrite:
        for name in ("b.vmdk", "b-flat.vmdk"):
            (folder / name).write_text("old")
    context = make_several("monolithicFlat", overwrite=overwrite)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        if overwrite:
            patch.setattr(target.Path, "replace", _dying_for("b.vmdk", target.Path.replace))
        else:
            patch.setattr(target, "link_or_rename", die)
        with pytest.raises(Killed):
            ConvertTask().run(context)
    assert "b-flat.vmdk" in names(folder)
    assert "b.vmdk" not in names(folder)
    last = context.next_attempt()
    ConvertTask().run(last)
    assert names(folder) == ["a.raw", "b-flat.vmdk", "b.vmdk"]
    assert same_content(last, folder / "b.vmdk")


def _dying_for(name, real):
    def replace(self, goal):
        if goal.name == name:
            raise Killed
        return real(self, goal)

    return replace


@each_subformat
def test_a_stranger_with_a_siblings_name_is_kept_unless_it_may_be_overwritten(make_several, folder, subformat):
    stranger = folder / SEVERAL[subformat][0]
    stranger.write_bytes(b"precious")
    context = make_several(subformat)
    with pytest.raises(AlreadyExists) as caught:
        ConvertTask().run(context)
    assert caught.value.reason == "TARGET_EXISTS"
    assert stranger.read_bytes() == b"precious"
    assert names(folder) == ["a.raw", stranger.name]
    assert context.unreleased() == set()
    context = make_several(subformat, overwrite=True)
    ConvertTask().run(context)
    assert same_content(context, folder / "b.vmdk")


def test_a_stranger_that_appears_meanwhile_is_kept_and_nothing_else_is_left(make_several, folder):
    context = make_several("monolithicFlat")
    context.on_check = lambda: (folder / "b.vmdk").write_bytes(b"precious")
    with pytest.raises(AlreadyExists):
        ConvertTask().run(context)
    assert (folder / "b.vmdk").read_bytes() == b"precious"
    assert names(folder) == ["a.raw", "b.vmdk"]


@each_subformat
def test_cleanup_removes_all_files_of_a_dead_runner(make_several, folder, often, subformat):
    context = make_several(subformat)
    context.kill_after_checkpoints = 2
    with pytest.raises(Killed):
        ConvertTask().run(context)
    (entry,) = context.held.values()
    ConvertTask().cleanup(entry["record"])
    assert names(folder) == ["a.raw"]


def test_compress_means_stream_optimized_for_vmdk(make_several, folder):
    context = make_several("streamOptimized", compress=True)
    ConvertTask().run(context)
    with context.open_image(folder / "b.vmdk") as source:
        assert source.info()["compressed"]
    with pytest.raises(InvalidArgument):
        ConvertTask().run(make_several("monolithicFlat", compress=True, overwrite=True))
