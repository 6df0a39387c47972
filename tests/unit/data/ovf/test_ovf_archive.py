"""Members of tar archives: what products write is read, what hides something is refused whole."""

import io
import tarfile

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.archive import BLOCK, MAX_MEMBERS, parse_header, read_members
from hypersdk.errors import HyperError, MalformedImage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LONG = "x" * 120 + ".vmdk"


def patched(data, at, new, header=0):
    """`data` with `new` at byte `at` of the header at `header`, whose checksum is made right again."""
    out = bytearray(data)
    out[header + at : header + at + len(new)] = new
    out[header + 148 : header + 156] = b" " * 8
    out[header + 148 : header + 156] = b"%06o\0 " % sum(out[header : header + BLOCK])
    return bytes(out)


def refusal(file):
    with pytest.raises(MalformedImage) as caught:
        read_members(file)
    return caught.value


def sparse_pax():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("disk.vmdk")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "1099511627776"}
        tar.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_where_they_lie(pack, image_file, tar_format):
    name = "disk.vmdk" if tar_format == tarfile.USTAR_FORMAT else LONG
    data = pack(("vm.ovf", b"<x/>"), (name, b"d" * 1000), ("empty.iso", b""), tar_format=tar_format)
    members = read_members(image_file(data))
    assert list(members) == ["vm.ovf", name, "empty.iso"]
    assert [m.size for m in members.values()] == [4, 1000, 0]
    assert data[members[name].offset :][:1000] == b"d" * 1000


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_of_more_than_8_gib_is_found(image_file, tmp_path, tar_format):
    info = tarfile.TarInfo("disk.vmdk")
    info.size = 20 << 30
    head = info.tobuf(tar_format)
    with (tmp_path / "big.ova").open("wb") as out:
        out.write(head)
        out.truncate(len(head) + info.size + 1024)
    with ImageFile.open(tmp_path / "big.ova") as file:
        assert read_members(file)["disk.vmdk"].size == 20 << 30


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("/etc/vm.ovf", {}),
        ("../vm.ovf", {}),
        ("dir/vm.ovf", {}),
        ("..", {}),
        (".", {}),
        ("a\\b.ovf", {}),
        ("http:x", {"name": "http:/" + "/x"}),
        ("vm.ovf", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("vm.ovf", {"type": tarfile.LNKTYPE, "linkname": "x"}),
        ("vm.ovf", {"type": tarfile.DIRTYPE}),
        ("vm.ovf", {"type": tarfile.FIFOTYPE}),
        ("vm.ovf", {"type": tarfile.CHRTYPE}),
        ("vm.ovf", {"type": tarfile.BLKTYPE}),
        ("vm.ovf", {"type": tarfile.CONTTYPE}),
        ("vm.ovf", {"type": tarfile.GNUTYPE_SPARSE}),
        ("vm.ovf", {"type": b"V"}),
    ],
)
def test_members_that_are_no_plain_files_with_plain_names_are_refused(pack, image_file, name, attributes):
    assert refusal(image_file(pack((name, b""), **attributes))).reason == "OVA_MEMBER_REFUSED"


def test_a_name_that_comes_twice_is_refused(pack, image_file):
    assert refusal(image_file(pack(("a.ovf", b"1"), ("b", b""), ("a.ovf", b"2")))).reason == "OVA_MEMBER_REFUSED"


def test_a_name_that_comes_twice_through_an_extended_header_is_refused(pack, image_file):
    first = pack(("disk.vmdk", b""))[:BLOCK]
    second = tarfile.TarInfo("other.vmdk")
    second.pax_headers = {"path": "disk.vmdk"}
    data = first + second.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    assert refusal(image_file(data)).reason == "OVA_MEMBER_REFUSED"


def test_sparse_members_in_pax_records_are_refused(image_file):
    assert refusal(image_file(sparse_pax())).reason == "OVA_MEMBER_REFUSED"


def test_a_global_record_may_not_rename_or_resize(image_file):
    for key in ("path", "size"):
        head = tarfile.TarInfo.create_pax_global_header({key: "5"})
        assert refusal(image_file(head + bytes(1024))).reason == "OVA_MEMBER_REFUSED"


def test_too_many_members_are_refused(pack, image_file):
    data = pack(*((f"f{n}", b"") for n in range(MAX_MEMBERS + 1)))
    assert refusal(image_file(data)).reason == "OVA_MEMBER_REFUSED"


@pytest.mark.parametrize(
    "size", [b"77777777777\0", b"\x80" + b"\xff" * 11, b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7, b"00000002001\0"]
)
def test_sizes_beyond_the_file_are_a_truncated_archive(pack, image_file, size):
    data = patched(pack(("vm.ovf", b"x" * 1024)), 124, size)[: BLOCK + 1024]
    assert refusal(image_file(data)).reason == "IMAGE_TRUNCATED"


@pytest.mark.parametrize("size", [b"-0000000001\0", b"\xff" * 12, b"99999999999\0", b"0x000000010\0"])
def test_sizes_that_are_no_numbers_are_malformed(pack, image_file, size):
    assert refusal(image_file(patched(pack(("vm.ovf", b"x")), 124, size))).reason == "OVA_MALFORMED"


@pytest.mark.parametrize("at", [0, 100, 148, 257, 500])
def test_a_header_with_a_wrong_checksum_is_malformed(pack, image_file, at):
    data = bytearray(pack(("vm.ovf", b"x")))
    data[at] ^= 0x55
    assert refusal(image_file(bytes(data))).reason == "OVA_MALFORMED"


@pytest.mark.parametrize(
    "records",
    [b"5 path=x\n", b"99 path=x\n", b"0 path=x\n", b"9 path x\n", b"path=x\n", b"9 path=xy", b"11 size=-1\n\n"],
)
def test_impossible_pax_records_are_malformed(pack, image_file, records):
    data = patched(pack(("x", records)), 156, b"x") + pack(("vm.ovf", b""))
    assert refusal(image_file(data)).reason in {"OVA_MALFORMED", "IMAGE_TRUNCATED"}


def test_an_extended_header_of_any_size_is_not_read(pack, image_file):
    data = patched(pack(("x", bytes(100_000))), 156, b"L")
    assert refusal(image_file(data)).reason == "OVA_MALFORMED"


def test_an_archive_without_its_end_is_truncated(pack, image_file):
    data = pack(("vm.ovf", b"x"))
    for cut in (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 100):
        assert refusal(image_file(data[:cut])).reason == "IMAGE_TRUNCATED"


def test_headers_that_are_none_are_told_by_none():
    for block in (b"", bytes(BLOCK), b"\xff" * BLOCK, b"ustar" * 100, bytes(BLOCK - 1)):
        assert parse_header(block) is None


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_gives_members_inside_the_file_or_a_typed_error(pack, image_file, data):
    archive = bytearray(pack(("vm.ovf", b"<x/>" * 200), (LONG, b"d" * 700), tar_format=tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    if data.draw(st.booleans()):
        for header in range(0, len(archive) - BLOCK, BLOCK):
            if archive[header + 257 : header + 262] == b"ustar":
                archive[:] = patched(archive, 0, b"", header)
    file = image_file(bytes(archive))
    try:
        members = read_members(file)
    except HyperError:
        return
    for member in members.values():
        assert 0 <= member.offset <= member.offset + member.size <= len(archive)
        assert not set(member.name) & {"/", "\\", "\0"}
