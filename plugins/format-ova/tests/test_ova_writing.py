"""Packages that we write: their options, and what tar, Python and qemu-img make of them."""

import hashlib
import shutil
import subprocess
import tarfile

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry, convert
from hypersdk.data.ovf import manifest
from hypersdk.data.pipeline import copy
from hypersdk.errors import HyperError, InvalidArgument
from hypersdk_format_ova import OvaFormat

OPTIONS = {
    "name": "Web 01", "cpus": "4", "memory": "8GiB", "firmware": "efi", "os": "debian12_64Guest", "network": "LAN",
}  # fmt: skip
MEMBERS = ["Web-01.ovf", "Web-01-disk1.vmdk", "Web-01.mf"]


@pytest.fixture
def package(tmp_path, source):
    path = tmp_path / "out.ova"
    with ImageFile.create(path) as file:
        copy(source, OvaFormat().create(file, source.size, OPTIONS))
    return path


def run(*argv):
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is missing; Debian has it in {'qemu-utils' if argv[0] == 'qemu-img' else argv[0]}")
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_it_is_read_back_and_checks_clean(package, source, read, check):
    assert read(package) == source.content()
    report = check(package)
    assert (report.corruptions, report.details) == (0, {"manifest": "SHA256", "files_verified": 2})


def test_the_machine_is_told(package):
    with OvaFormat().open(ImageFile.open(package)) as disk:
        details = disk.info()["details"]
    assert (details["machine"], details["cpu_count"], details["memory_bytes"]) == ("Web 01", 4, 8 << 30)
    assert (details["firmware"], details["guest_os"], details["nics"]) == ("efi", "debian12_64Guest", ["LAN"])
    assert details["disks"] == [{"id": "vmdisk1", "file": MEMBERS[1], "virtual_size": 4 << 20, "bus": "scsi"}]


def test_python_reads_it_in_strict_mode_and_the_digests_are_right(package):
    with tarfile.open(package, mode="r:", errorlevel=2, ignore_zeros=False) as tar:
        assert tar.getnames() == MEMBERS
        content = {name: tar.extractfile(name).read() for name in MEMBERS}
    digests = manifest.parse(content.pop(MEMBERS[2]), "m")
    assert {d.name: d.value for d in digests} == {n: hashlib.sha256(data).hexdigest() for n, data in content.items()}
    assert f'ovf:size="{len(content[MEMBERS[1]])}"'.encode() in content[MEMBERS[0]]


@pytest.mark.peer
def test_tar_lists_it_and_qemu_img_reads_the_disk_in_it(package, source, tmp_path):
    assert [line.split()[-1] for line in run("tar", "tvf", package).splitlines()] == MEMBERS
    run("tar", "xf", package, "-C", tmp_path)
    run("qemu-img", "check", tmp_path / MEMBERS[1])
    (tmp_path / "raw").write_bytes(source.content())
    assert "identical" in run("qemu-img", "compare", "-f", "vmdk", "-F", "raw", tmp_path / MEMBERS[1], tmp_path / "raw")


@pytest.mark.peer
def test_conversions_there_and_back_lose_nothing(source, tmp_path):
    (tmp_path / "raw").write_bytes(source.content())
    registry = FormatRegistry.installed()
    convert(tmp_path / "raw", tmp_path / "Web.ova", registry=registry, src_format="raw", dst_format="ova")
    convert(tmp_path / "Web.ova", tmp_path / "back.qcow2", registry=registry, dst_format="qcow2")
    assert "identical" in run("qemu-img", "compare", "-F", "raw", tmp_path / "back.qcow2", tmp_path / "raw")
    assert run("tar", "tf", tmp_path / "Web.ova").split() == ["Web.ovf", "Web-disk1.vmdk", "Web.mf"]


@pytest.mark.parametrize(
    "name", ["../../etc/x", "..", "a/b\\c", "\u202egpj", "x" * 200, "-rf", "$(id)", "\x1b[31m", "\u00fc"]
)
def test_a_name_becomes_a_plain_file_name(name, tmp_path, source, check):
    path = tmp_path / "out.ova"
    with ImageFile.create(path) as file:
        copy(source, OvaFormat().create(file, source.size, {"name": name}))
    with tarfile.open(path) as tar:
        for member in tar.getnames():
            assert member.isascii()
            assert not member.startswith((".", "-"))
            assert "/" not in member
            assert len(member) <= 100
    assert check(path).corruptions == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [("cpus", "0"), ("cpus", "x"), ("cpus", "1000"), ("memory", "2048"), ("memory", "0GiB"), ("memory", "lots"),
     ("firmware", "uefi"), ("bus", "usb"), ("subformat", "monolithicSparse"), ("name", "x" * 300), ("os", "x" * 300)],
)  # fmt: skip
def test_impossible_options_are_refused_before_anything_is_written(option, value, tmp_path):
    with ImageFile.create(tmp_path / "x.ova") as file:
        with pytest.raises(InvalidArgument) as caught:
            OvaFormat().create(file, 1 << 20, {option: value})
        assert caught.value.reason == "OPTION_INVALID"
        assert file.size == 0


def test_a_checkpoint_of_another_package_is_not_gone_on_with(tmp_path, source):
    with ImageFile.create(tmp_path / "x.ova") as file:
        sink = OvaFormat().create(file, source.size, {"name": "one"})
        sink.write(0, b"x" * 65536)
        state = sink.checkpoint()
        sink.abort()
        for name, broken, reason in (("two", state, "RESUME_MISMATCH"), ("one", {}, "RESUME_STATE_INVALID")):
            with pytest.raises(HyperError) as caught:
                OvaFormat().create(file, source.size, {"name": name}, broken)
            assert caught.value.reason == reason
