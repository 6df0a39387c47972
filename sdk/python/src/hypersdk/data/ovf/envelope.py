"""An OVF 1.1 descriptor, written: one machine with CPUs, memory, firmware, disks on their controllers, and NICs.

Elements stand in the order of the standard's schema (in an Item that is alphabetical). VMware's `vmw:Config` carries
the firmware and `vmw:osType` the guest, which the standard has no room for; others ignore both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from hypersdk.plugin import Nic
from hypersdk.plugin.provider import Firmware

STREAM_OPTIMIZED = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
HARDWARE = "vmx-13"
"""Virtual hardware of ESXi 6.5, the first that takes SHA-256 manifests. VirtualBox takes any."""

DEFAULT_NETWORK = "VM Network"
_MIB = 1 << 20
_NAMESPACES = {
    "xmlns": "http://schemas.dmtf.org/ovf/envelope/1",
    "xmlns:ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "xmlns:rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "xmlns:vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "xmlns:vmw": "http://www.vmware.com/schema/ovf",
}
_CONTROLLERS: Mapping[str, tuple[int, str, Sequence[int]]] = {
    "ide": (5, "", (0, 1)),
    "scsi": (6, "lsilogic", (*range(7), *range(8, 16))),  # 7 is the controller itself
    "sata": (20, "AHCI", range(30)),
}
"""Bus → resource type (DSP1041), subtype, units that a controller has."""

_OS_TYPES = (
    ("ubuntu64", 94), ("ubuntu", 93), ("debian", 96), ("rhel", 80), ("centos", 107), ("oracleLinux", 109),
    ("otherLinux64", 101), ("otherLinux", 36), ("other", 1),
)  # fmt: skip
"""Beginnings of VMware's guest ids → CIM_OperatingSystem.OSType; what is not here is 1, "Other", as VMware does."""
_GUEST_ID = re.compile(r"[a-z][A-Za-z0-9_-]{0,60}Guest")


@dataclass(frozen=True, slots=True)
class PackedDisk:
    """`name`: of its file in the package. Sizes in bytes; `file_bytes` -1: not told. `bus`: ide, scsi or sata; anything
    else becomes scsi."""

    id: str
    name: str
    file_bytes: int
    capacity_bytes: int
    bus: str = "scsi"
    format_url: str = STREAM_OPTIMIZED


@dataclass(frozen=True, slots=True)
class PackedMachine:
    """What the descriptor tells. `guest_os`: VMware's guest id ("debian12_64Guest"), a number of
    CIM_OperatingSystem.OSType, or any text, which becomes the description."""

    name: str
    disks: Sequence[PackedDisk]
    cpu_count: int = 1
    memory_bytes: int = 1 << 30
    firmware: Firmware = "bios"
    guest_os: str = ""
    nics: Sequence[Nic] = ()


def render(machine: PackedMachine) -> bytes:
    """The descriptor in UTF-8. Characters that XML has no place for become U+FFFD."""
    networks = list(dict.fromkeys(nic.network or DEFAULT_NETWORK for nic in machine.nics))
    sections = [
        _element("References", {}, [_file(number, disk) for number, disk in enumerate(machine.disks, 1)]),
        _element("DiskSection", {}, [
            _text("Info", "The disks of the machine"), *(_disk(n, disk) for n, disk in enumerate(machine.disks, 1)),
        ]),
    ]  # fmt: skip
    if networks:
        described = [
            _element("Network", {"ovf:name": name}, [_text("Description", f"The network {name}")]) for name in networks
        ]
        sections.append(_element("NetworkSection", {}, [_text("Info", "The networks of the machine"), *described]))
    sections.append(_system(machine))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_element("Envelope", _NAMESPACES, sections)}'.encode()


def _file(number: int, disk: PackedDisk) -> str:
    size = {"ovf:size": str(disk.file_bytes)} if disk.file_bytes >= 0 else {}
    return _element("File", {"ovf:id": f"file{number}", "ovf:href": disk.name, **size})


def _disk(number: int, disk: PackedDisk) -> str:
    attributes = {
        "ovf:diskId": disk.id, "ovf:fileRef": f"file{number}", "ovf:capacity": str(disk.capacity_bytes),
        "ovf:capacityAllocationUnits": "byte", "ovf:format": disk.format_url,
    }  # fmt: skip
    return _element("Disk", attributes)


def _system(machine: PackedMachine) -> str:
    hardware = [
        _text("Info", "The virtual hardware"),
        _element("System", {}, [
            _text("vssd:ElementName", "Virtual hardware family"),
            _text("vssd:InstanceID", "0"),
            _text("vssd:VirtualSystemIdentifier", machine.name),
            _text("vssd:VirtualSystemType", HARDWARE),
        ]),
        *(_element("Item", {}, [_text(f"rasd:{key}", item[key]) for key in sorted(item)]) for item in _items(machine)),
    ]  # fmt: skip
    if machine.firmware != "unknown":
        setting = {"ovf:required": "false", "vmw:key": "firmware", "vmw:value": machine.firmware}
        hardware.append(_element("vmw:Config", setting))
    content = [
        _text("Info", "A virtual machine"),
        _text("Name", machine.name),
        _operating_system(machine.guest_os),
        _element("VirtualHardwareSection", {}, hardware),
    ]
    return _element("VirtualSystem", {"ovf:id": "vm"}, content)


def _operating_system(guest_os: str) -> str:
    number, attributes = 1, {}
    if guest_os.isascii() and guest_os.isdigit():
        number = int(guest_os[:5])
    elif _GUEST_ID.fullmatch(guest_os):
        number = next((number for start, number in _OS_TYPES if guest_os.startswith(start)), 1)
        attributes = {"vmw:osType": guest_os}
    content = [_text("Info", "The guest operating system")]
    if guest_os:
        content.append(_text("Description", guest_os))
    return _element("OperatingSystemSection", {"ovf:id": str(number), **attributes}, content)


def _items(machine: PackedMachine) -> Iterator[dict[str, str]]:
    """Resources by the local names of rasd, InstanceIDs counted from 1."""
    yield {
        "AllocationUnits": "hertz * 10^6", "ElementName": f"{machine.cpu_count} virtual CPUs", "InstanceID": "1",
        "ResourceType": "3", "VirtualQuantity": str(machine.cpu_count),
    }  # fmt: skip
    whole = machine.memory_bytes % _MIB == 0
    yield {
        "AllocationUnits": "byte * 2^20" if whole else "byte", "ElementName": "Memory", "InstanceID": "2",
        "ResourceType": "4", "VirtualQuantity": str(machine.memory_bytes // _MIB if whole else machine.memory_bytes),
    }  # fmt: skip
    instance = 3
    for item in _storage(machine.disks, instance):
        yield item
        instance += 1
    for number, nic in enumerate(machine.nics):
        item = {
            "AddressOnParent": str(7 + number), "AutomaticAllocation": "true",
            "Connection": nic.network or DEFAULT_NETWORK, "ElementName": f"Network adapter {number + 1}",
            "InstanceID": str(instance + number), "ResourceSubType": nic.model or "E1000", "ResourceType": "10",
        }  # fmt: skip
        if nic.mac_address:
            item["Address"] = nic.mac_address
        yield item


def _storage(disks: Sequence[PackedDisk], first: int) -> Iterator[dict[str, str]]:
    """Controllers, each before its disks, in the order of the disks as far as one controller holds them."""
    instance = first
    open_controllers: dict[str, tuple[int, list[int]]] = {}
    made: dict[str, int] = {}
    for number, disk in enumerate(disks):
        bus = disk.bus if disk.bus in _CONTROLLERS else "scsi"
        kind, subtype, units = _CONTROLLERS[bus]
        if not open_controllers.get(bus, (0, []))[1]:
            address = made[bus] = made.get(bus, -1) + 1
            controller = {
                "Address": str(address), "ElementName": f"{bus.upper()} controller {address}",
                "InstanceID": str(instance), "ResourceType": str(kind),
            }  # fmt: skip
            yield {**controller, "ResourceSubType": subtype} if subtype else controller
            open_controllers[bus] = (instance, list(units))
            instance += 1
        parent, free = open_controllers[bus]
        yield {
            "AddressOnParent": str(free.pop(0)), "ElementName": f"Hard disk {number + 1}",
            "HostResource": f"ovf:/disk/{disk.id}", "InstanceID": str(instance), "Parent": str(parent),
            "ResourceType": "17",
        }  # fmt: skip
        instance += 1


def _element(tag: str, attributes: Mapping[str, str], children: Sequence[str] = ()) -> str:
    opening = tag + "".join(f" {key}={quoteattr(_clean(value))}" for key, value in attributes.items())
    return f"<{opening}>\n{''.join(children)}</{tag}>\n" if children else f"<{opening}/>\n"


def _text(tag: str, text: str) -> str:
    return f"<{tag}>{escape(_clean(text))}</{tag}>\n"


def _clean(text: str) -> str:
    """Control and bidirectional marks, lone surrogates and the like have no place in a name, most none in XML."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
