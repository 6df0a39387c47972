"""OVF and OVA packages: what is read of them, and what is refused."""

import gzip
import io
import tarfile
import tracemalloc

import pytest
from hypersdk.data.ovf import descriptor as ovf
from hypersdk.data.ovf import xml
from hypersdk.errors import HyperError, MalformedImage, NotFound, PermissionDenied, Unsupported
from hypersdk.testing import LocalTaskContext
from hypersdk_provider_directory import DirectoryProvider
from hypothesis import given, settings
from hypothesis import strategies as st

DISK = b"first sector".ljust(512, b"\0") + bytes(100 * 512) + b"last".ljust(512, b"\0")
SYSTEM = """
  <VirtualSystem ovf:id="vm"><Name>Web server</Name>
    <OperatingSystemSection ovf:id="96"><Description>Debian GNU/Linux 12</Description></OperatingSystemSection>
    <VirtualHardwareSection>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>
      <Item ovf:bound="max"><rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:ResourceType>4</rasd:ResourceType><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:VirtualQuantity>2048</rasd:VirtualQuantity></Item>
      <Item><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>5</rasd:Parent>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource></Item>
      <Item><rasd:ResourceType>10</rasd:ResourceType><rasd:Connection>VM Network</rasd:Connection>
        <rasd:Address>00:50:56:00:00:01</rasd:Address><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType></Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
  </VirtualSystem>"""


def envelope(href="disk.raw", file_attributes="", disk_attributes="", system=SYSTEM, prolog=""):
    return f"""<?xml version="1.0" encoding="UTF-8"?>{prolog}
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:id="file1" ovf:href="{href}" {file_attributes}/></References>
  <DiskSection><Info>disks</Info>
    <Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="51"
      ovf:capacityAllocationUnits="byte * 2^10" {disk_attributes}/>
  </DiskSection>{system}
</Envelope>"""


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    path.mkdir()
    (path / "disk.raw").write_bytes(DISK)
    return path


@pytest.fixture
def provider(root):
    provider = DirectoryProvider()
    provider.configure({"path": str(root)}, {})
    return provider


@pytest.fixture
def context(tmp_path):
    return LocalTaskContext({}, tmp_path / "scratch")


def content(source):
    buffer = bytearray(source.size)
    source.readinto(0, memoryview(buffer))
    return bytes(buffer)


def test_a_package_is_read_with_its_hardware(root, provider):
    (root / "vm.ovf").write_text(envelope())
    machine = provider.machine("vm-ovf")
    assert (machine.display_name, machine.cpu_count, machine.memory_bytes) == ("Web server", 4, 2 << 30)
    assert (machine.firmware, machine.guest_os, machine.power_state) == ("efi", "Debian GNU/Linux 12", "off")
    (disk,) = machine.disks
    assert (disk.id, disk.size_bytes, disk.bus, disk.format) == ("vmdisk1", 51 << 10, "scsi", "raw")
    (nic,) = machine.nics
    assert (nic.network, nic.mac_address, nic.model) == ("VM Network", "00:50:56:00:00:01", "VmxNet3")


def test_the_disk_of_a_package_is_read(root, provider, context):
    (root / "vm.ovf").write_text(envelope())
    with provider.open_source("vm-ovf", "vmdisk1", context) as source:
        assert content(source) == DISK


def test_an_escaped_reference_finds_its_file(root, provider, context):
    (root / "my disk.raw").write_bytes(DISK)
    (root / "vm.ovf").write_text(envelope(href="my%20disk.raw"))
    with provider.open_source("vm-ovf", "vmdisk1", context) as source:
        assert content(source) == DISK


def test_a_disk_without_a_file_is_blank(root, provider, context):
    (root / "vm.ovf").write_text(envelope().replace('ovf:fileRef="file1"', ""))
    with provider.open_source("vm-ovf", "vmdisk1", context) as source:
        assert content(source) == bytes(51 << 10)
        assert [(e.length, int(e.kind)) for e in source.extents()] == [(51 << 10, 0)]


@pytest.mark.parametrize(
    "href",
    ["../secret.raw", "/etc/passwd", "sub/disk.raw", "..", ".", "http://host/disk.raw", "file:///etc/passwd", "a\\b",
     "%2e%2e%2fsecret.raw", "..%2fsecret.raw", "x" * 256],
)  # fmt: skip
def test_references_that_are_no_plain_names_are_refused(root, provider, context, href, tmp_path):
    (tmp_path / "secret.raw").write_bytes(b"secret")
    (root / "vm.ovf").write_text(envelope(href=href))
    with pytest.raises(PermissionDenied) as caught:
        provider.open_source("vm-ovf", "vmdisk1", context)
    assert caught.value.reason == "REFERENCE_REFUSED"
    assert provider.machine("vm-ovf").disks[0].details["error"] == "REFERENCE_REFUSED"


def test_a_reference_to_a_link_is_refused_wherever_it_leads(root, provider, context):
    (root / "link.raw").symlink_to("disk.raw")
    (root / "vm.ovf").write_text(envelope(href="link.raw"))
    with pytest.raises(PermissionDenied) as caught:
        provider.open_source("vm-ovf", "vmdisk1", context)
    assert caught.value.reason == "REFERENCE_REFUSED"


def test_a_file_that_is_missing_is_named(root, provider, context):
    (root / "vm.ovf").write_text(envelope(href="gone.raw"))
    with pytest.raises(NotFound) as caught:
        provider.open_source("vm-ovf", "vmdisk1", context)
    assert caught.value.reason == "REFERENCED_FILE_MISSING"


@pytest.mark.parametrize(
    ("file_attributes", "disk_attributes", "reason"),
    [('ovf:compression="xz"', "", "OVF_COMPRESSION_UNSUPPORTED"),
     ('ovf:chunkSize="1000"', "", "OVF_SPLIT_FILE_UNSUPPORTED"),
     ("", 'ovf:parentRef="base"', "OVF_DISK_HAS_PARENT")],
)  # fmt: skip
def test_what_cannot_be_read_is_said(root, provider, context, file_attributes, disk_attributes, reason):
    (root / "vm.ovf").write_text(envelope(file_attributes=file_attributes, disk_attributes=disk_attributes))
    with pytest.raises(Unsupported) as caught:
        provider.open_source("vm-ovf", "vmdisk1", context)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (envelope(prolog='<!DOCTYPE x [<!ENTITY a "b">]>'), "OVF_DTD_REFUSED"),
        (envelope(prolog='<!DOCTYPE x SYSTEM "file:///etc/passwd">'), "OVF_DTD_REFUSED"),
        ("", "OVF_MALFORMED"),
        ("<Envelope>", "OVF_MALFORMED"),
        ("<Envelope/>", "OVF_MALFORMED"),
        ("<html/>", "OVF_MALFORMED"),
        ("\x00\x01\x02", "OVF_MALFORMED"),
        ('<?xml version="1.0" encoding="no-such"?><Envelope/>', "OVF_MALFORMED"),
        ("<a>" * 100 + "</a>" * 100, "OVF_TOO_LARGE"),
        ("<Envelope>" + "<a/>" * 60_000 + "</Envelope>", "OVF_TOO_LARGE"),
        (envelope().replace('fileRef="file1"', 'fileRef="file9"'), "OVF_MALFORMED"),
        (envelope().replace("/disk/vmdisk1", "/disk/other"), "OVF_MALFORMED"),
    ],
)
def test_bad_descriptors_are_listed_with_their_error_and_hide_no_other_machine(root, provider, text, reason):
    (root / "bad.ovf").write_text(text)
    listed = {machine.id: machine for machine in provider.machines(10, "").items}
    assert set(listed) == {"bad-ovf", "disk-raw"}
    assert listed["bad-ovf"].details["error"] == reason
    with pytest.raises(MalformedImage) as caught:
        provider.machine("bad-ovf")
    assert caught.value.reason == reason


def test_a_collection_is_refused(root, provider):
    (root / "many.ovf").write_text("<Envelope><VirtualSystemCollection/></Envelope>")
    with pytest.raises(Unsupported) as caught:
        provider.machine("many-ovf")
    assert caught.value.reason == "OVF_COLLECTION_UNSUPPORTED"


def test_a_huge_descriptor_is_refused_without_reading_it_whole(root, provider):
    with (root / "huge.ovf").open("wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedImage) as caught:
            provider.machine("huge-ovf")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "OVF_TOO_LARGE"
    assert peak < 32 << 20


def test_a_descriptor_that_was_replaced_is_read_again(root, provider):
    (root / "vm.ovf").write_text("<broken")
    with pytest.raises(MalformedImage):
        provider.machine("vm-ovf")
    (root / "vm.ovf").write_text(envelope())
    assert provider.machine("vm-ovf").cpu_count == 4


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda b: b.decode("latin-1")))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_descriptor_or_a_typed_error(text):
    for data in (text.encode("utf-8", "replace"), envelope(system=SYSTEM + text).encode("utf-8", "replace")):
        try:
            ovf.read(data, "fuzz.ovf")
        except HyperError:
            continue


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_to_a_descriptor_is_a_descriptor_or_a_typed_error(data):
    text = bytearray(envelope().encode())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=8))
        if not text:
            break
    try:
        ovf.read(bytes(text), "fuzz.ovf")
    except HyperError as exc:
        assert exc.reason.startswith("OVF_")


def archive(members, **kw):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in kw.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_an_archive_is_read_where_it_lies(root, provider, context):
    (root / "vm.ova").write_bytes(archive([("vm.ovf", envelope().encode()), ("disk.raw", DISK)]))
    assert provider.machine("vm-ova").disks[0].allocated_bytes == len(DISK)
    with provider.open_source("vm-ova", "vmdisk1", context) as source:
        assert content(source) == DISK


def test_an_archive_whose_disk_has_no_telling_name_is_probed(root, provider, context):
    (root / "vm.ova").write_bytes(archive([("vm.ovf", envelope(href="disk.img").encode()), ("disk.img", DISK)]))
    with provider.open_source("vm-ova", "vmdisk1", context) as source:
        assert content(source) == DISK


@pytest.mark.parametrize(
    "data",
    [
        archive([("vm.ovf", b"x"), ("vm.ovf", b"y")]),
        archive([("/etc/vm.ovf", b"x")]),
        archive([("../vm.ovf", b"x")]),
        archive([("dir/vm.ovf", b"x")]),
        archive([("vm.ovf", b"")], type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        archive([("vm.ovf", b"")], type=tarfile.LNKTYPE, linkname="x"),
        archive([("pipe", b"")], type=tarfile.FIFOTYPE),
        archive([("sparse", b"")], type=tarfile.GNUTYPE_SPARSE),
    ],
    ids=["twice", "absolute", "up", "folder", "symlink", "hardlink", "fifo", "sparse"],
)
def test_archives_with_odd_members_are_refused(root, provider, data):
    (root / "odd.ova").write_bytes(data)
    with pytest.raises(MalformedImage) as caught:
        provider.machine("odd-ova")
    assert caught.value.reason in {"OVA_MEMBER_REFUSED", "OVA_MALFORMED"}


@pytest.mark.parametrize("archived", [True, False], ids=["ova", "ovf"])
def test_a_disk_that_is_compressed_as_a_whole_is_read(root, provider, context, archived):
    text, packed = envelope(href="packed.raw.gz", file_attributes='ovf:compression="gzip"'), gzip.compress(DISK)
    if archived:
        (root / "vm.ova").write_bytes(archive([("vm.ovf", text.encode()), ("packed.raw.gz", packed)]))
    else:
        (root / "vm.ovf").write_text(text)
        (root / "packed.raw.gz").write_bytes(packed)
    with provider.open_source("vm-ova" if archived else "vm-ovf", "vmdisk1", context) as source:
        assert content(source) == DISK


def test_a_bomb_of_a_disk_stops_at_what_the_package_declares(root, provider, context):
    (root / "vm.ovf").write_text(envelope(href="packed.raw.gz", file_attributes='ovf:compression="gzip"'))
    (root / "packed.raw.gz").write_bytes(gzip.compress(bytes(64 << 20)))
    with pytest.raises(MalformedImage) as caught:
        provider.open_source("vm-ovf", "vmdisk1", context)
    assert caught.value.reason == "OVF_GZIP_TOO_LARGE"


def test_an_image_in_an_archive_reads_no_extent_beside_it(root, provider, context):
    image = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="f"\nRW 1 FLAT "disk.raw" 0\n'
    text = envelope(href="a.vmdk").encode()
    (root / "vm.ova").write_bytes(archive([("vm.ovf", text), ("a.vmdk", image)]))
    with pytest.raises(PermissionDenied) as caught:
        provider.open_source("vm-ova", "vmdisk1", context)
    assert caught.value.reason == "REFERENCE_REFUSED"


def test_a_truncated_archive_and_no_archive_are_told(root, provider):
    whole = archive([("vm.ovf", envelope().encode()), ("disk.raw", DISK)])
    (root / "cut.ova").write_bytes(whole[: whole.index(b"first sector") + 1000])
    (root / "none.ova").write_bytes(b"this is no archive" * 100)
    (root / "bare.ova").write_bytes(archive([("readme", b"x")]))
    for machine_id in ("cut-ova", "none-ova", "bare-ova"):
        with pytest.raises(MalformedImage):
            provider.machine(machine_id)


def test_the_xml_limit_is_what_the_documentation_says():
    assert xml.MAX_BYTES == 4 << 20
