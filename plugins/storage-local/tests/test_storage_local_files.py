"""What storage-local promises beyond the storage contract: links, crash safety, order of syncs, full
disks."""

import errno
import os
import threading

import pytest
from hypersdk.errors import (
    FailedPrecondition,
    HyperError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from hypersdk.plugin.storage import check_key
from hypersdk_storage_local import LocalStorage
from hypothesis import given, settings
from hypothesis import strategies as st

UPLOADS = ".hypersdk-uploads"


def opened(path, **config):
    storage = LocalStorage()
    storage.configure({"path": str(path), **config}, {})
    return storage


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def storage(root):
    return opened(root)


def put(storage, key, data=b"x"):
    writer = storage.open_writer(key)
    writer.write(data)
    return writer.commit()


def test_a_link_to_a_directory_outside_is_neither_written_through_nor_listed(storage, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "door").symlink_to(outside)
    with pytest.raises(PermissionDenied) as caught:
        storage.read_range("door/secret", 0, 6)
    assert caught.value.reason == "SYMBOLIC_LINK_REFUSED"
    writer = storage.open_writer("door/new")
    writer.write(b"x")
    with pytest.raises(PermissionDenied):
        writer.commit()
    with pytest.raises(PermissionDenied):
        storage.delete("door/secret")
    assert sorted(os.listdir(outside)) == ["secret"]
    assert storage.list("", 10, "").items == []
    assert storage.list("door/", 10, "").items == []


def test_a_link_in_place_of_an_object_is_refused_and_replaced_only_itself(storage, root, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    (root / "k").symlink_to(target)
    with pytest.raises(PermissionDenied):
        storage.stat("k")
    put(storage, "k", b"object")
    assert target.read_bytes() == b"untouched"
    assert storage.read_range("k", 0, 6) == b"object"


def test_a_link_in_place_of_the_uploads_directory_is_refused(storage, root, tmp_path):
    (root / UPLOADS).symlink_to(tmp_path)
    with pytest.raises(PermissionDenied):
        storage.open_writer("k").write(b"x")


def test_a_staged_file_that_was_replaced_is_not_published(storage, root, tmp_path):
    writer = storage.open_writer("k")
    staged = writer.staging_path
    staged.unlink()
    staged.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FailedPrecondition):
        writer.commit()
    assert not (root / "k").exists()


def test_a_fifo_neither_blocks_nor_is_an_object(storage, root):
    os.mkfifo(root / "pipe")
    with pytest.raises(NotFound):
        storage.stat("pipe")
    assert storage.list("", 10, "").items == []


def test_keys_of_the_uploads_directory_are_reserved(storage):
    for act in (storage.open_writer, storage.stat, storage.delete):
        with pytest.raises(InvalidArgument) as caught:
            act(f"{UPLOADS}/x")
        assert caught.value.reason == "OBJECT_KEY_RESERVED"


def test_a_key_below_an_object_and_a_key_that_is_a_folder_conflict(storage):
    put(storage, "a/b")
    for key in ("a", "a/b/c"):
        with pytest.raises(FailedPrecondition) as caught:
            put(storage, key)
        assert caught.value.reason == "OBJECT_KEY_CONFLICT"


def test_a_missing_root_is_told_unless_it_may_be_made(tmp_path):
    missing = tmp_path / "not" / "there"
    storage = opened(missing)
    assert not storage.health().ok
    with pytest.raises(FailedPrecondition) as caught:
        storage.stat("k")
    assert caught.value.reason == "STORAGE_PATH_MISSING"
    assert opened(missing, create=True).health().ok


def test_a_root_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition) as caught:
        opened(tmp_path / "file", create=True).stat("k")
    assert caught.value.reason == "STORAGE_PATH_NOT_DIRECTORY"


def test_a_full_disk_is_a_retryable_error_and_leaves_the_old_object(storage, monkeypatch):
    put(storage, "k", b"old")
    writer = storage.open_writer("k")
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(ResourceExhausted) as caught:
        writer.write(b"new")
    monkeypatch.undo()
    assert (caught.value.reason, caught.value.retryable) == ("DISK_FULL", True)
    writer.abort()
    assert storage.read_range("k", 0, 3) == b"old"


def test_the_file_and_its_directories_are_synced_around_the_rename(storage, monkeypatch):
    steps = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd):
        steps.append("dir" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")
        real_fsync(fd)

    writer = storage.open_writer("new/k")
    writer.write(b"x")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", lambda *a, **kw: (steps.append("rename"), real_rename(*a, **kw)))
    writer.commit()
    assert steps == ["file", "dir", "rename", "dir"]


def test_a_partial_is_not_made_before_its_token_can_be_noted(storage, root):
    writer = storage.open_writer("k")
    assert writer.token
    assert os.listdir(root) == []


def test_objects_and_directories_are_their_owners_only(storage, root):
    put(storage, "d/k")
    assert (root / "d/k").stat().st_mode & 0o777 == 0o600
    assert (root / "d").stat().st_mode & 0o777 == 0o700


def test_deleting_prunes_the_folders_that_became_empty_and_no_others(storage, root):
    put(storage, "a/b/c")
    put(storage, "a/k")
    storage.delete("a/b/c")
    assert sorted(os.listdir(root / "a")) == ["k"]
    storage.delete("a/k")
    assert sorted(os.listdir(root)) == [UPLOADS]


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(storage):
    failures = []

    def churn(name):
        try:
            for _ in range(30):
                put(storage, f"shared/folder/{name}")
                storage.delete(f"shared/folder/{name}")
        except HyperError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=churn, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_foreign_files_with_impossible_names_are_left_out_of_lists(storage, root):
    put(storage, "good")
    with open(os.fsencode(root) + b"/bad\xff", "wb"), open(root / "new\nline", "wb"), open(root / "b\\s", "wb"):
        pass
    assert [info.key for info in storage.list("", 10, "").items] == ["good"]


@given(
    keys=st.sets(
        st.lists(st.text("ab.~/ü0", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join), max_size=12
    ),
    prefix=st.text("ab./", max_size=3),
    page_size=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_listing_equals_sorting_all_keys(tmp_path_factory, keys, prefix, page_size):
    storage = opened(tmp_path_factory.mktemp("list"))
    there = set()
    for key in sorted(keys):
        try:
            check_key(key)
            put(storage, key)
            there.add(key)
        except (InvalidArgument, FailedPrecondition):
            continue
    found, token = [], ""
    while True:
        page = storage.list(prefix, page_size, token)
        found += [info.key for info in page.items]
        token = page.next_token
        if not token:
            break
    assert found == sorted(key for key in there if key.startswith(prefix))
