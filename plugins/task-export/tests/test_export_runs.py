"""Exports from end to end, in this process: directory → format → storage, killed, cancelled, resumed."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest
from hypersdk.data import transfer
from hypersdk.errors import Cancelled, DataLoss, FailedPrecondition, NotFound, ResourceExhausted, Unsupported
from hypersdk.testing import Killed, LocalTaskContext, MemoryStorage
from hypersdk_provider_directory import DirectoryProvider
from hypersdk_storage_local import LocalStorage
from hypersdk_task_export import ExportTask

MIB = 1 << 20
SPEC = {"machine": "connections/lab/machines/web-raw", "target": "connections/out", "prefix": "exports/web"}


def provider_of(path):
    provider = DirectoryProvider()
    provider.configure({"path": str(path)}, {})
    return provider


def local_storage(path):
    storage = LocalStorage()
    storage.configure({"path": str(path), "create": True}, {})
    return storage


def disk_bytes(size=24 * MIB):
    """Data at the start, in the middle and in the last block, holes between."""
    block = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(2 * MIB // 32))
    return (block + bytes(9 * MIB) + block[::-1]).ljust(size - 4096, b"\0") + b"\xff" * 4096


@pytest.fixture
def platform(tmp_path):
    path = tmp_path / "platform"
    path.mkdir()
    (path / "web.raw").write_bytes(disk_bytes())
    return path


@pytest.fixture(params=["local", "memory", "memory-staging"])
def storage(request, tmp_path):
    if request.param == "local":
        yield local_storage(tmp_path / "objects")
        return
    storage = MemoryStorage(staging=request.param == "memory-staging")
    yield storage
    if storage.staging_dir is not None:
        shutil.rmtree(storage.staging_dir)


@pytest.fixture
def make_context(platform, storage, tmp_path):
    def make(**spec):
        return LocalTaskContext(
            {**SPEC, **spec}, tmp_path / "scratch",
            providers={"connections/lab": provider_of(platform)}, storages={"connections/out": storage},
            job="jobs/j1",
        )  # fmt: skip

    return make


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every piece."""
    monkeypatch.setattr(transfer, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(transfer, "CHECKPOINT_SECONDS", 0.0)


def keys(storage):
    return [info.key for info in storage.list("", 1000, "").items]


def read(storage, key):
    return storage.read_range(key, 0, storage.stat(key).size_bytes)


def manifest_of(storage):
    return json.loads(read(storage, "exports/web/manifest.json"))


def check_export(storage, tmp_path, content=None, name="disk-0.qcow2"):
    """The image holds the content, and everything that the manifest says of it is true."""
    content = disk_bytes() if content is None else content
    manifest = manifest_of(storage)
    entry = manifest["files"][0]
    image = read(storage, entry["key"])
    assert entry["key"] == f"exports/web/{name}"
    assert entry["size_bytes"] == len(image)
    assert entry["sha256"] == hashlib.sha256(image).hexdigest()
    assert entry["content"]["sha256"] == hashlib.sha256(content).hexdigest()
    leaves = [hashlib.sha256(content[i : i + 4 * MIB]).digest() for i in range(0, len(content), 4 * MIB)]
    assert entry["content"]["tree_sha256"] == hashlib.sha256(b"".join(leaves)).hexdigest()
    assert entry["content"]["chunk_bytes"] == 4 * MIB
    (tmp_path / "out.img").write_bytes(image)
    return tmp_path / "out.img"


def test_an_export_writes_the_images_then_a_true_manifest(make_context, storage, tmp_path):
    context = make_context()
    result = ExportTask().run(context)
    assert keys(storage) == ["exports/web/disk-0.qcow2", "exports/web/manifest.json"]
    check_export(storage, tmp_path)
    manifest = manifest_of(storage)
    assert manifest["schema"] == "hypersdk.dev/export/v1"
    assert manifest["machine"]["name"] == SPEC["machine"]
    assert manifest["plugins"]["format/qcow2"]["distribution"] == "hypersdk-format-qcow2"
    assert result["manifest"] == "exports/web/manifest.json"
    assert result["virtual_bytes"] == 24 * MIB
    assert context.unreleased() == set()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("image_format", "compress", "name"),
    [("qcow2", False, "disk-0.qcow2"), ("qcow2", True, "disk-0.qcow2"), ("vmdk", False, "disk-0.vmdk"),
     ("vmdk", True, "disk-0.vmdk"), ("raw", False, "disk-0.raw")],
)  # fmt: skip
def test_qemu_img_finds_the_same_content(make_context, storage, tmp_path, platform, image_format, compress, name):
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not there: apt-get install qemu-utils")
    ExportTask().run(make_context(format=image_format, compress=compress))
    image = check_export(storage, tmp_path, name=name)
    subprocess.run(
        ["qemu-img", "compare", "-f", image_format, "-F", "raw", str(image), str(platform / "web.raw")], check=True
    )


def test_a_killed_export_goes_on_from_its_checkpoint(make_context, storage, tmp_path, often):
    context = make_context()
    context.kill_after_checkpoints = 2
    with pytest.raises(Killed):
        ExportTask().run(context)
    assert keys(storage) == []
    second = context.next_attempt()
    result = ExportTask().run(second)
    check_export(storage, tmp_path)
    assert second.unreleased() == set()
    assert result["bytes_read"] == 16 * MIB


def test_a_kill_at_any_moment_leads_to_one_true_export_and_no_leftover(make_context, storage, tmp_path, often):
    for kill_at in range(1, 60, 7):
        context = make_context()
        context.kill_after_checks = kill_at
        try:
            ExportTask().run(context)
            finished = True
        except Killed:
            finished = False
            assert "exports/web/manifest.json" not in keys(storage)
            last = context.next_attempt()
            ExportTask().run(last)
            assert last.unreleased() == set()
        check_export(storage, tmp_path)
        for key in keys(storage):
            storage.delete(key)
        if finished:
            return


@pytest.mark.parametrize("save", range(1, 8))
def test_a_kill_right_after_any_checkpoint_is_survived(make_context, storage, tmp_path, save):
    context = make_context()
    context.kill_after_checkpoints = save
    try:
        ExportTask().run(context)
    except Killed:
        context = context.next_attempt()
        ExportTask().run(context)
    check_export(storage, tmp_path)
    assert context.unreleased() == set()


def test_a_committed_disk_is_not_copied_again(make_context, storage, tmp_path):
    context = make_context()
    ExportTask().run(context)
    storage.delete("exports/web/manifest.json")
    again = ExportTask().run(context.next_attempt())
    assert [file["reused"] for file in again["files"]] == [True]
    assert again["bytes_read"] == 0
    check_export(storage, tmp_path)


def test_a_committed_disk_that_was_tampered_with_is_copied_again(make_context, storage, tmp_path):
    context = make_context()
    ExportTask().run(context)
    writer = storage.open_writer("exports/web/disk-0.qcow2")
    writer.write(b"something else")
    writer.commit()
    again = ExportTask().run(context.next_attempt())
    assert [file["reused"] for file in again["files"]] == [False]
    check_export(storage, tmp_path)


def test_a_source_that_changed_between_attempts_is_copied_from_the_start(
    make_context, storage, tmp_path, platform, often
):
    context = make_context()
    context.kill_after_checkpoints = 2
    with pytest.raises(Killed):
        ExportTask().run(context)
    changed = disk_bytes()[::-1]
    (platform / "web.raw").write_bytes(changed)
    os.utime(platform / "web.raw", ns=(1, 1))
    last = context.next_attempt()
    ExportTask().run(last)
    check_export(storage, tmp_path, changed)
    assert last.unreleased() == set()


def test_a_source_that_changes_while_it_is_copied_is_not_committed(make_context, storage, platform):
    context = make_context()
    context.on_check = lambda: os.utime(platform / "web.raw", ns=(1, 1))
    with pytest.raises(FailedPrecondition) as caught:
        ExportTask().run(context)
    assert caught.value.reason == "SOURCE_CHANGED"
    assert keys(storage) == []
    assert context.unreleased() == set()


def test_an_image_that_notes_its_own_name_notes_the_final_one(make_context, storage):
    ExportTask().run(make_context(format="vmdk"))
    assert b'SPARSE "disk-0.vmdk"' in storage.read_range("exports/web/disk-0.vmdk", 0, 20 * 512)


def test_a_cancelled_export_leaves_nothing(make_context, storage):
    context = make_context()
    context.on_check = lambda: context.cancel() if context.checks == 3 else None
    with pytest.raises(Cancelled):
        ExportTask().run(context)
    assert keys(storage) == []
    assert context.unreleased() == set()


def test_an_image_that_reads_back_differently_is_not_committed(make_context, storage, monkeypatch):
    from hypersdk.data import readback

    monkeypatch.setattr(readback._Tapped, "readinto", lambda self, offset, buffer: self._digest.update(offset, buffer))
    context = make_context()
    with pytest.raises(DataLoss) as caught:
        ExportTask().run(context)
    assert caught.value.reason == "VERIFY_MISMATCH"
    assert keys(storage) == []
    assert context.unreleased() == set()


def test_a_full_storage_is_retryable_and_the_next_attempt_succeeds(make_context, storage, tmp_path):
    if not isinstance(storage, MemoryStorage):
        pytest.skip("only the memory storage can be told to be full")
    context = make_context()
    storage.failure, storage.fail_after_bytes = ResourceExhausted("no space left", reason="DISK_FULL"), 100
    with pytest.raises(ResourceExhausted):
        ExportTask().run(context)
    assert "exports/web/manifest.json" not in keys(storage)
    storage.failure = None
    last = context.next_attempt()
    ExportTask().run(last)
    check_export(storage, tmp_path)
    assert last.unreleased() == set()


def test_unknown_disks_machines_and_options_are_told_before_anything_is_made(make_context, storage):
    with pytest.raises(NotFound) as caught:
        ExportTask().run(make_context(disks=["nope"]))
    assert caught.value.reason == "DISK_NOT_FOUND"
    with pytest.raises(NotFound):
        ExportTask().run(make_context(machine="connections/lab/machines/gone"))
    with pytest.raises(Unsupported) as unsupported:
        ExportTask().run(make_context(format="raw", compress=True))
    assert unsupported.value.reason == "COMPRESS_UNSUPPORTED"
    assert keys(storage) == []


def test_progress_grows_to_the_total_and_names_its_phases(make_context):
    context = make_context()
    ExportTask().run(context)
    done = [report.bytes_done for report in context.reports]
    assert done == sorted(done)
    assert context.reports[-1].bytes_total == 24 * MIB
    assert {report.phase.split()[0] for report in context.reports} >= {"copying", "verifying"}


def test_a_machine_without_disks_is_refused(platform, storage, tmp_path):
    (platform / "bare.ovf").write_text("<Envelope><VirtualSystem id='bare'/></Envelope>")
    context = LocalTaskContext(
        {**SPEC, "machine": "connections/lab/machines/bare-ovf"}, tmp_path / "scratch",
        providers={"connections/lab": provider_of(platform)}, storages={"connections/out": storage},
    )  # fmt: skip
    with pytest.raises(FailedPrecondition) as caught:
        ExportTask().run(context)
    assert caught.value.reason == "MACHINE_HAS_NO_DISKS"


def test_a_plan_names_the_objects(tmp_path):
    plan = ExportTask().plan(SPEC)
    assert plan["objects"] == ["exports/web/{disk}.qcow2", "exports/web/manifest.json"]


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_a_layout_of_several_files_is_refused_with_those_that_work(make_context, storage, subformat):
    context = make_context(format="vmdk", options={"subformat": subformat})
    with pytest.raises(Unsupported) as caught:
        ExportTask().run(context)
    assert caught.value.reason == "SUBFORMAT_UNSUPPORTED"
    assert "monolithicSparse, streamOptimized" in caught.value.message
    assert keys(storage) == []
    assert context.unreleased() == set()
