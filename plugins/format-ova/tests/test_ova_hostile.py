"""Packages that want something else than to be read: rows 22 and 24 of what the project is held to."""

import io
import resource
import tarfile
import time

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import HyperError, MalformedImage, NotFound, PermissionDenied
from hypersdk_format_ova import OvaFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

VMDK = 'ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"'
SECRET = b"not yours".ljust(512, b"!")


def failure(path):
    """The error of opening, which has to come quickly."""
    start = time.process_time()
    with pytest.raises(HyperError) as caught:
        OvaFormat().open(ImageFile.open(path))
    assert time.process_time() - start < 1.0
    return caught.value


@pytest.mark.parametrize(
    "href",
    ["../secret.raw", "/etc/passwd", "..%2fsecret.raw", "sub/secret.raw", "a\\secret.raw", "http://127.0.0.1/x",
     "file:///etc/passwd", "..", ".", "x" * 4096],
)  # fmt: skip
@pytest.mark.parametrize("archived", [True, False], ids=["ova", "ovf"])
def test_references_out_of_the_package_are_refused(href, archived, descriptor, pack, tmp_path):
    (tmp_path / "secret.raw").write_bytes(SECRET)
    text = descriptor(("d1", href, 512, "", ""))
    (tmp_path / "vm.ovf").write_bytes(text)
    error = failure(pack(("vm.ovf", text)) if archived else tmp_path / "vm.ovf")
    assert isinstance(error, PermissionDenied)
    assert error.reason == "REFERENCE_REFUSED"


def test_an_archive_reads_no_file_beside_it(descriptor, pack, tmp_path):
    (tmp_path / "secret.raw").write_bytes(SECRET)
    assert isinstance(failure(pack(("vm.ovf", descriptor(("d1", "secret.raw", 512, "", ""))))), NotFound)


def test_an_ovf_follows_no_link_beside_it(descriptor, tmp_path):
    (tmp_path / "secret.raw").write_bytes(SECRET)
    (tmp_path / "link.raw").symlink_to("secret.raw")
    (tmp_path / "vm.ovf").write_bytes(descriptor(("d1", "link.raw", 512, "", "")))
    assert isinstance(failure(tmp_path / "vm.ovf"), PermissionDenied)


def test_an_image_in_an_archive_reads_no_extent_beside_the_archive(descriptor, pack, tmp_path):
    (tmp_path / "secret-flat.vmdk").write_bytes(SECRET)
    image = (
        b'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        b'RW 1 FLAT "secret-flat.vmdk" 0\n'
    )
    text = descriptor(("d1", "a.vmdk", 512, "", VMDK))
    error = failure(pack(("vm.ovf", text), ("a.vmdk", image)))
    assert (type(error), error.reason) == (PermissionDenied, "REFERENCE_REFUSED")


@pytest.mark.parametrize(
    ("prolog", "reason"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]>', "OVF_DTD_REFUSED"),
        ('<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>', "OVF_DTD_REFUSED"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd">', "OVF_DTD_REFUSED"),
        ('<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]>', "OVF_DTD_REFUSED"),
        ("&undefined;", "OVF_MALFORMED"),
        ("<a>" * 100, "OVF_MALFORMED"),
    ],
)
def test_descriptors_with_entities_and_the_like_are_refused(prolog, reason, descriptor, pack):
    assert failure(pack(("vm.ovf", descriptor(prolog=prolog)))).reason in {reason, "OVF_TOO_LARGE"}


@pytest.mark.parametrize("text", [b"<e>" + b"<a/>" * 60_000 + b"</e>", b"<a>" * 100, b"<a " + b"x" * (5 << 20)])
def test_descriptors_without_end_are_refused(text, pack):
    assert failure(pack(("vm.ovf", text))).reason in {"OVF_TOO_LARGE", "OVF_MALFORMED"}


@pytest.mark.parametrize("suffix", ["ovf", "mf", "cert"])
def test_two_descriptors_manifests_or_certificates_are_refused(suffix, descriptor, pack):
    error = failure(pack(("vm.ovf", descriptor()), (f"a.{suffix}", b"x"), (f"b.{suffix}", b"y")))
    assert error.reason == "OVA_MALFORMED"


def test_a_member_that_comes_twice_is_refused(descriptor, pack):
    text = descriptor(("d1", "a.raw", 512, "", ""))
    error = failure(pack(("vm.ovf", text), ("a.raw", bytes(512)), ("a.raw", SECRET)))
    assert error.reason == "OVA_MEMBER_REFUSED"


def test_a_sparse_member_of_a_tebibyte_is_refused(tmp_path, descriptor):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        text = descriptor(("d1", "a.raw", 1 << 40, "", ""))
        info = tarfile.TarInfo("vm.ovf")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        info = tarfile.TarInfo("a.raw")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
        tar.addfile(info)
    (tmp_path / "vm.ova").write_bytes(out.getvalue())
    assert failure(tmp_path / "vm.ova").reason == "OVA_MEMBER_REFUSED"


def test_a_malformed_manifest_is_told_by_info_and_counted_by_check(descriptor, pack, check):
    text = descriptor(("d1", "a.raw", 512, "", ""))
    path = pack(("vm.ovf", text), ("vm.mf", b"SHA256(../x)= 12"), ("a.raw", bytes(512)))
    with OvaFormat().open(ImageFile.open(path)) as disk:
        assert disk.info()["details"]["manifest"] == "malformed"
    assert check(path).corruptions == 1


@pytest.mark.parametrize("name", ["../x", "\u202egpj.exe", "a\u2028b", "x" * 70_000, "$(id)", "\x9b31mred", "a&#10;b"])
def test_hostile_names_of_machines_are_shown_escaped(name, descriptor, pack):
    text = descriptor(("d1", "a.raw", 512, "", "")).replace(b"Web server", name.encode())
    with OvaFormat().open(ImageFile.open(pack(("vm.ovf", text), ("a.raw", bytes(512))))) as disk:
        assert disk.info()["details"]["machine"].isprintable()


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_reads_as_a_disk_or_a_typed_error(descriptor, pack, tmp_path, data):
    text = descriptor(("d1", "a.raw", 512, "", ""))
    whole = bytearray(pack(("vm.ovf", text), ("a.raw", SECRET), digests="SHA256").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 4096))
        whole[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    path = tmp_path / "fuzz.ova"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        with OvaFormat().open(ImageFile.open(path)) as disk:
            disk.info()
            disk.readinto(0, memoryview(bytearray(min(disk.size, 4096))))
        with ImageFile.open(path) as file:
            OvaFormat().check(file)
    except HyperError:
        return


def test_a_hostile_archive_costs_little_memory(tmp_path):
    path = tmp_path / "huge.ova"
    info = tarfile.TarInfo("vm.ovf")
    info.size = 1 << 40
    with path.open("wb") as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.truncate((1 << 40) + 4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MalformedImage) as caught:
        OvaFormat().open(ImageFile.open(path))
    assert caught.value.reason == "OVF_TOO_LARGE"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
