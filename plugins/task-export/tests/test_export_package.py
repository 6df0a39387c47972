"""Exports of a whole machine as one OVA: what is in it, and that a killed one goes on."""

import hashlib
import io
import json
import subprocess
import tarfile

import pytest
from hypersdk.errors import InvalidArgument, Unavailable
from hypersdk.testing import LocalTaskContext, MemoryStorage
from hypersdk_provider_directory import DirectoryProvider
from hypersdk_task_export import ExportTask
from hypersdk_task_export import package as package_module

MIB = 1 << 20
SPEC = {"machine": "connections/lab/machines/web-ovf", "target": "connections/out", "prefix": "x/web", "package": "ova"}
KEYS = ["x/web/manifest.json", "x/web/web-ovf.ova"]
DESCRIPTOR = """<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:id="f1" ovf:href="a.raw"/><File ovf:id="f2" ovf:href="b.raw"/></References>
<DiskSection><Disk ovf:diskId="root" ovf:fileRef="f1"/><Disk ovf:diskId="data" ovf:fileRef="f2"/></DiskSection>
<VirtualSystem ovf:id="vm"><Name>Web 01</Name><VirtualHardwareSection>
<Item><ResourceType>3</ResourceType><VirtualQuantity>4</VirtualQuantity></Item>
<Item><ResourceType>4</ResourceType><VirtualQuantity>2048</VirtualQuantity></Item>
<Item><ResourceType>10</ResourceType><Connection>LAN</Connection></Item>
<Config key="firmware" value="efi"/></VirtualHardwareSection></VirtualSystem></Envelope>"""


def disk(seed, size):
    block = b"".join(hashlib.sha256(f"{seed}{i}".encode()).digest() for i in range(MIB // 32))
    return block.ljust(size - 512, b"\0") + b"\xff" * 512


DISKS = {"root": disk("a", 6 * MIB), "data": disk("b", 3 * MIB)}


@pytest.fixture
def platform(tmp_path):
    path = tmp_path / "platform"
    path.mkdir()
    (path / "a.raw").write_bytes(DISKS["root"])
    (path / "b.raw").write_bytes(DISKS["data"])
    (path / "web.ovf").write_text(DESCRIPTOR)
    provider = DirectoryProvider()
    provider.configure({"path": str(path)}, {})
    return provider


@pytest.fixture
def storage():
    return MemoryStorage(staging=False)


@pytest.fixture
def make_context(platform, storage, tmp_path):
    def make(**spec):
        return LocalTaskContext(
            {**SPEC, **spec}, tmp_path / "scratch",
            providers={"connections/lab": platform}, storages={"connections/out": storage}, job="jobs/j1",
        )  # fmt: skip

    return make


def read(storage, key):
    return storage.read_range(key, 0, storage.stat(key).size_bytes)


def test_the_package_holds_the_machine_and_all_its_disks(make_context, storage, tmp_path):
    result = ExportTask().run(make_context())
    assert sorted(info.key for info in storage.list("", 10, "").items) == KEYS
    whole = read(storage, KEYS[1])
    document = json.loads(read(storage, KEYS[0]))
    assert document["package"] == {
        "key": KEYS[1], "size_bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()
    }  # fmt: skip
    assert [file["key"] for file in result["files"]] == [KEYS[1]] * 2
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:", errorlevel=2) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    assert list(members) == ["Web-01.ovf", "Web-01.mf", "root.vmdk", "data.vmdk"]
    for entry in document["files"]:
        assert hashlib.sha256(members[entry["member"]]).hexdigest() == entry["sha256"]
        assert hashlib.sha256(DISKS[entry["disk"]]).hexdigest() == entry["content"]["sha256"]


def test_the_package_is_a_machine_of_a_directory_again(make_context, storage, tmp_path):
    ExportTask().run(make_context())
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "web.ova").write_bytes(read(storage, KEYS[1]))
    provider = DirectoryProvider()
    provider.configure({"path": str(tmp_path / "again")}, {})
    machine = provider.machine("web-ova")
    assert (machine.display_name, machine.cpu_count, machine.memory_bytes) == ("Web 01", 4, 2 << 30)
    assert (machine.firmware, [nic.network for nic in machine.nics]) == ("efi", ["LAN"])
    for found in machine.disks:
        with provider.open_source("web-ova", found.id, make_context()) as source:
            buffer = bytearray(source.size)
            source.readinto(0, memoryview(buffer))
            assert bytes(buffer) == DISKS[found.id]


def test_a_retry_copies_no_verified_disk_again_and_leaves_nothing_behind(make_context, storage, tmp_path, monkeypatch):
    context = make_context()

    def away(*_):
        raise Unavailable("the storage is away")

    with monkeypatch.context() as patch:
        patch.setattr(package_module.TarStream, "end", away)
        with pytest.raises(Unavailable):
            ExportTask().run(context)
    assert storage.list("", 10, "").items == []
    assert not context.unreleased()
    assert ExportTask().run(context.next_attempt())["bytes_read"] == 0
    assert sorted(info.key for info in storage.list("", 10, "").items) == KEYS
    assert not list((tmp_path / "scratch").glob("*.image"))


@pytest.mark.peer
def test_qemu_img_finds_the_disks_identical(make_context, storage, tmp_path):
    ExportTask().run(make_context())
    with tarfile.open(fileobj=io.BytesIO(read(storage, KEYS[1]))) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    for name, content in DISKS.items():
        (tmp_path / "raw").write_bytes(content)
        argv = ["qemu-img", "compare", "-f", "vmdk", "-F", "raw", tmp_path / "out" / f"{name}.vmdk", tmp_path / "raw"]
        assert "identical" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("spec", [{"format": "qcow2"}, {"options": {"subformat": "monolithicSparse"}}])
def test_a_package_takes_no_other_format_and_no_options(make_context, spec):
    with pytest.raises(InvalidArgument) as caught:
        ExportTask().run(make_context(**spec))
    assert caught.value.reason == "SPEC_INVALID"
