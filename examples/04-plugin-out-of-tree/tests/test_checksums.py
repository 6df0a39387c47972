"""What is written, and what verification finds."""

import hashlib
import shutil
import subprocess

import pytest
from hypersdk.errors import Aborted, DataLoss, NotFound
from hypersdk.testing import LocalTaskContext, MemoryStorage
from hypersdk_task_checksums import ChecksumsTask
from hypersdk_task_checksums.sums import decode, encode


def put(storage, key, data):
    writer = storage.open_writer(key)
    writer.write(data)
    writer.commit()


def run(storage, tmp_path, **spec):
    storages = {"connections/lab": storage}
    return ChecksumsTask().run(LocalTaskContext({"storage": "connections/lab", **spec}, tmp_path, storages=storages))


@pytest.fixture
def storage():
    storage = MemoryStorage()
    put(storage, "nightly/a.img", b"first")
    put(storage, "nightly/deep/b.img", b"second")
    put(storage, "other/c.img", b"elsewhere")
    return storage


def test_the_sums_are_those_of_the_objects_below_the_prefix(storage, tmp_path):
    assert run(storage, tmp_path, prefix="nightly/")["objects"] == 2
    data, _ = storage.objects["nightly/SHA256SUMS"]
    assert decode(data) == {
        "a.img": hashlib.sha256(b"first").hexdigest(), "deep/b.img": hashlib.sha256(b"second").hexdigest()
    }  # fmt: skip


def test_what_was_written_verifies(storage, tmp_path):
    run(storage, tmp_path, prefix="nightly/")
    assert run(storage, tmp_path, prefix="nightly/", verify=True)["objects"] == 2


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_damage_fails_the_job_and_is_named(storage, tmp_path, damage):
    run(storage, tmp_path, prefix="nightly/")
    if damage == "changed":
        put(storage, "nightly/a.img", b"fIrst")
    else:
        storage.delete("nightly/a.img")
    with pytest.raises(DataLoss) as caught:
        run(storage, tmp_path, prefix="nightly/", verify=True)
    assert caught.value.reason == "CHECKSUM_MISMATCH"
    assert "a.img" in caught.value.message


def test_nothing_to_compare_with_is_not_found(storage, tmp_path):
    with pytest.raises(NotFound):
        run(storage, tmp_path, prefix="nightly/", verify=True)


@pytest.mark.parametrize("later", [b"as long as", b"short"])
def test_an_object_that_changes_while_it_is_read_is_told(storage, tmp_path, later):
    read = storage.read_range

    def changing(key, offset, length):
        put(storage, key, later)
        return read(key, offset, length)

    storage.read_range = changing
    with pytest.raises(Aborted) as caught:
        run(storage, tmp_path, prefix="other/")
    assert caught.value.reason == "OBJECT_CHANGED"


@pytest.mark.parametrize("name", ["plain", "with space", "back\\slash", "line\nbreak", "ü", "a/b"])
def test_names_survive(name):
    digest = hashlib.sha256(b"").hexdigest()
    assert decode(encode({name: digest})) == {name: digest}


@pytest.mark.parametrize("data", [b"\xff", b"short  name\n", b"0" * 64 + b" \n"])
def test_a_malformed_file_is_refused(data):
    with pytest.raises(DataLoss):
        decode(data)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed (coreutils)")
def test_sha256sum_agrees(tmp_path):
    names = {"plain": b"one", "with space": b"two", "back\\slash": b"three"}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "SHA256SUMS").write_bytes(encode({n: hashlib.sha256(d).hexdigest() for n, d in names.items()}))
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
