"""Packages built from the specification: which disk is read, gzip'd members, manifests, plain .ovf."""

import gzip
import hashlib
import os

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry, image_info
from hypersdk.errors import HyperError, MalformedImage, NotFound, Unsupported
from hypersdk.testing.blocks import PatternSource
from hypersdk_format_ova import OvaFormat

MIB = 1 << 20
VMDK = 'ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"'


@pytest.fixture
def two_disks(source, vmdk, descriptor, pack):
    """A package with the disks d1 (a VMDK) and d2 (raw), and a manifest."""
    raw = PatternSource(MIB, [(5000, 5000)]).content()
    text = descriptor(("d1", "a.vmdk", source.size, "", VMDK), ("d2", "b.raw", len(raw), "", ""))
    return pack(("vm.ovf", text), ("a.vmdk", vmdk(source)), ("b.raw", raw), digests="SHA256"), source.content(), raw


def test_the_first_disk_is_read_unless_another_is_named(two_disks, read):
    path, first, second = two_disks
    assert read(path) == read(path, disk="d1") == read(path, disk="0") == first
    assert read(path, disk="d2") == read(path, disk="1") == second


def test_a_disk_that_is_not_there_is_refused_with_those_that_are(two_disks, read):
    for wanted in ("d3", "2", "-1", "99999999999999999999"):
        with pytest.raises(NotFound, match="d1") as caught:
            read(two_disks[0], disk=wanted)
        assert caught.value.reason == "DISK_NOT_FOUND"


def test_an_uncompressed_disk_in_an_archive_is_copied_by_the_operating_system(two_disks):
    path, _, second = two_disks
    with OvaFormat().open(ImageFile.open(path), {"disk": "d2"}) as disk:
        (found,) = disk.file_ranges(4096, 8192)
        assert os.pread(found.fd, found.length, found.file_offset) == second[4096:12288]


def test_information_tells_machine_disks_and_manifest(two_disks):
    info = image_info(two_disks[0], registry=FormatRegistry.installed())
    assert (info["format"], info["virtual_size"], info["subformat"]) == ("ova", 4 * MIB, "streamOptimized")
    details = info["details"]
    assert (details["machine"], details["disk"], details["disk_format"]) == ("Web server", "d1", "vmdk")
    assert (details["manifest"], details["certificate"], details["archive"]) == ("SHA256", "", True)
    assert [(d["id"], d["file"], d["virtual_size"]) for d in details["disks"]] == [
        ("d1", "a.vmdk", 4 * MIB), ("d2", "b.raw", MIB)
    ]  # fmt: skip


def test_the_files_of_a_plain_ovf_lie_beside_it(two_disks, tmp_path, read, check, descriptor, vmdk, source):
    (tmp_path / "a disk.vmdk").write_bytes(vmdk(source))
    text = descriptor(("d1", "a%20disk.vmdk", source.size, "", VMDK))
    (tmp_path / "vm.ovf").write_bytes(text)
    assert read(tmp_path / "vm.ovf") == source.content()
    assert check(tmp_path / "vm.ovf").details["manifest"] == "none"
    lines = [f"SHA1({n})= {hashlib.sha1((tmp_path / n).read_bytes()).hexdigest()}" for n in ("vm.ovf", "a disk.vmdk")]
    (tmp_path / "vm.mf").write_text("\n".join(lines))
    report = check(tmp_path / "vm.ovf")
    assert (report.corruptions, report.details) == (0, {"manifest": "SHA1", "files_verified": 2})
    assert OvaFormat().probe(text[:4096], text[-512:], len(text)) == 100


def test_a_disk_without_a_file_is_all_zeros(pack, descriptor, read):
    text = descriptor(("d1", "x", 2 * MIB, "", "")).replace(b'ovf:fileRef="f-d1"', b"")
    assert read(pack(("vm.ovf", text))) == bytes(2 * MIB)


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_check_holds_every_file_to_its_digest(algorithm, source, vmdk, descriptor, pack, check):
    text = descriptor(("d1", "a.vmdk", source.size, "", VMDK))
    path = pack(("vm.ovf", text), ("a.vmdk", vmdk(source)), digests=algorithm)
    report = check(path)
    assert (report.corruptions, report.details["manifest"], report.details["files_verified"]) == (0, algorithm, 2)
    data = bytearray(path.read_bytes())
    data[data.index(b"Web server")] ^= 0x20
    path.write_bytes(data)
    report = check(path)
    assert report.corruptions == 1
    assert "vm.ovf" in report.messages[0]


def test_check_counts_what_the_manifest_leaves_out_and_what_the_package_lacks(two_disks, pack, descriptor, check):
    text = descriptor(("d1", "a.raw", 512, "", ""))
    digest = hashlib.sha256(text).hexdigest()
    manifest = f"SHA256(vm.ovf)= {digest}\nSHA256(gone)= {digest}\n".encode()
    report = check(pack(("vm.ovf", text), ("vm.mf", manifest), ("a.raw", bytes(512))))
    assert report.corruptions == 2
    assert "gone" in report.messages[0]
    assert "a.raw" in report.messages[1]


def test_check_says_that_there_is_no_manifest_and_that_signatures_are_not_verified(pack, descriptor, check):
    report = check(pack(("vm.ovf", descriptor(("d1", "a.raw", 512, "", ""))), ("a.raw", bytes(512)), ("vm.cert", b"x")))
    assert report.corruptions == 0
    assert "no manifest" in report.messages[0]
    assert "signatures are not verified" in report.messages[1]


def test_a_damaged_disk_is_found_without_a_manifest(source, vmdk, descriptor, pack, check):
    image = bytearray(vmdk(source))
    image[:4] = b"XXXX"
    report = check(pack(("vm.ovf", descriptor(("d1", "a.vmdk", source.size, "", VMDK))), ("a.vmdk", bytes(image))))
    assert report.corruptions == 1


def test_a_disk_that_is_compressed_as_a_whole_is_read(source, vmdk, descriptor, pack, read, check):
    text = descriptor(("d1", "a.vmdk.gz", source.size, 'ovf:compression="gzip"', VMDK))
    path = pack(("vm.ovf", text), ("a.vmdk.gz", gzip.compress(vmdk(source))), digests="SHA256")
    assert read(path) == source.content()
    assert check(path).corruptions == 0


def test_a_bomb_of_a_disk_stops_at_what_the_package_declares(descriptor, pack, read):
    text = descriptor(("d1", "a.raw.gz", MIB, 'ovf:compression="gzip" ovf:size="4096"', ""))
    with pytest.raises(MalformedImage) as caught:
        read(pack(("vm.ovf", text), ("a.raw.gz", gzip.compress(bytes(200 * MIB)))))
    assert caught.value.reason == "OVF_GZIP_TOO_LARGE"


@pytest.mark.parametrize(
    ("file", "disk", "reason"),
    [
        ('ovf:compression="xz"', "", "OVF_COMPRESSION_UNSUPPORTED"),
        ('ovf:chunkSize="1000"', "", "OVF_SPLIT_FILE_UNSUPPORTED"),
        ("", 'ovf:parentRef="base"', "OVF_DISK_HAS_PARENT"),
    ],
)
def test_what_cannot_be_read_is_said(descriptor, pack, read, check, file, disk, reason):
    path = pack(("vm.ovf", descriptor(("d1", "a.raw", 512, file, disk))), ("a.raw", bytes(512)))
    with pytest.raises(Unsupported) as caught:
        read(path)
    assert caught.value.reason == reason
    assert any("was not checked" in message for message in check(path).messages)


def test_a_package_in_a_package_is_not_followed(descriptor, pack, read):
    inner = pack(("in.ovf", descriptor()), name="inner.ova").read_bytes()
    path = pack(("vm.ovf", descriptor(("d1", "inner.ova", 512, "", ""))), ("inner.ova", inner))
    with pytest.raises(Unsupported):
        read(path)


def test_an_error_while_opening_leaves_no_file_open(descriptor, pack):
    before = len(os.listdir("/proc/self/fd"))
    for text in (b"<broken", descriptor(("d1", "gone.raw", 512, "", "")), descriptor(("d1", "a.vmdk", 512, "", VMDK))):
        with pytest.raises(HyperError):
            OvaFormat().open(ImageFile.open(pack(("vm.ovf", text), ("a.vmdk", b"no image"))))
    assert len(os.listdir("/proc/self/fd")) == before
