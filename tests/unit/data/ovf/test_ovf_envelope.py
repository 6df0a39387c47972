"""Descriptors that we write, read by our own parser and held to the standard's order."""

import re

import pytest
from hypersdk.data.ovf import descriptor, envelope, xml
from hypersdk.data.ovf.envelope import PackedDisk, PackedMachine
from hypersdk.plugin import Nic
from hypothesis import given, settings
from hypothesis import strategies as st

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
sizes = st.integers(1, 1 << 50)
buses = st.sampled_from(["ide", "scsi", "sata"])


def shown(text):
    """As a descriptor tells it."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text).strip()


@st.composite
def machines(draw):
    count = draw(st.integers(0, 40))
    disks = [PackedDisk(f"vmdisk{n}", f"d{n}.vmdk", draw(sizes), draw(sizes), draw(buses)) for n in range(count)]
    addresses = st.sampled_from(["", "00:50:56:00:00:01"])
    nics = [Nic(f"nic-{n}", draw(addresses), draw(words)) for n in range(draw(st.integers(0, 3)))]
    return PackedMachine(
        name=draw(words), disks=disks, cpu_count=draw(st.integers(1, 128)), memory_bytes=draw(st.integers(1, 1 << 44)),
        firmware=draw(st.sampled_from(["bios", "efi", "unknown"])), guest_os=draw(words), nics=nics,
    )  # fmt: skip


@given(machines())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_what_is_read(machine):
    read = descriptor.read(envelope.render(machine), "vm.ovf")
    assert (read.cpu_count, read.memory_bytes) == (machine.cpu_count, machine.memory_bytes)
    assert read.firmware == machine.firmware
    assert [(d.id, d.file.href, d.file.size_bytes, d.capacity_bytes, d.bus) for d in read.disks] == [
        (d.id, d.name, d.file_bytes, d.capacity_bytes, d.bus) for d in machine.disks
    ]
    assert [(n.network or envelope.DEFAULT_NETWORK, n.mac_address) for n in read.nics] == [
        (shown(n.network) or envelope.DEFAULT_NETWORK, n.mac_address) for n in machine.nics
    ]


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_name_breaks_out_of_its_element(name):
    read = descriptor.read(envelope.render(PackedMachine(name, (), guest_os=name)), "vm.ovf")
    assert read.cpu_count == 1
    assert read.name == (shown(name) or "vm")


def test_every_controller_holds_what_it_can_and_no_unit_twice():
    buses = ["scsi"] * 40 + ["ide"] * 5 + ["sata"] * 31
    disks = [PackedDisk(f"d{n}", f"{n}.vmdk", 1, 512, bus) for n, bus in enumerate(buses)]
    root = xml.parse(envelope.render(PackedMachine("m", disks)), "vm.ovf")
    items = list(root.first("VirtualSystem").first("VirtualHardwareSection").all("Item"))
    controllers = {i.value("InstanceID"): i for i in items if i.value("ResourceType") in {"5", "6", "20"}}
    kinds = [c.value("ResourceType") for c in controllers.values()]
    assert [kinds.count(kind) for kind in ("5", "6", "20")] == [3, 3, 2]
    places = [(i.value("Parent"), i.value("AddressOnParent")) for i in items if i.value("ResourceType") == "17"]
    assert len(set(places)) == len(places) == len(disks)
    assert not any(controllers[p].value("ResourceType") == "6" and unit == "7" for p, unit in places)
    ids = [i.value("InstanceID") for i in items]
    assert len(set(ids)) == len(ids)
    addresses = [(c.value("ResourceType"), c.value("Address")) for c in controllers.values()]
    assert len(set(addresses)) == len(addresses)


def test_items_are_in_the_order_of_the_schema():
    machine = PackedMachine("m", (PackedDisk("d", "d.vmdk", 1, 512),), nics=(Nic("n", "00:11:22:33:44:55", "net"),))
    root = xml.parse(envelope.render(machine), "vm.ovf")
    assert [c.tag for c in root.children] == ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    for item in root.first("VirtualSystem").first("VirtualHardwareSection").all("Item"):
        tags = [c.tag for c in item.children]
        assert tags == sorted(tags)


@pytest.mark.parametrize(
    ("guest", "number", "vmware"),
    [("debian12_64Guest", "96", True), ("ubuntu64Guest", "94", True), ("windows9_64Guest", "1", True),
     ("80", "80", False), ("Debian 12", "1", False), ("", "1", False)],
)  # fmt: skip
def test_the_guest_is_told_in_both_vocabularies(guest, number, vmware):
    text = envelope.render(PackedMachine("m", (), guest_os=guest)).decode()
    section = re.search(r"<OperatingSystemSection ([^>]*)>", text)[1]
    assert f'ovf:id="{number}"' in section
    assert (f'vmw:osType="{guest}"' in section) == vmware
