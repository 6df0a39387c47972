"""What an OVF descriptor says of its one virtual machine: DMTF DSP0243, Open Virtualization Format 1.x and
2.x.

Reads References, DiskSection, VirtualSystem and its VirtualHardwareSection (the CIM resource types of
DSP1041: 3 processor, 4 memory, 5 IDE, 6 SCSI, 10 Ethernet, 17 disk, 20 other storage), and where VMware and
VirtualBox note the firmware. A value that makes no sense is left out; a structure that makes no sense is an
error.

Not here: opening files, deciding whether a reference may be followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hypersdk.data.ovf.xml import Element, parse
from hypersdk.errors import MalformedImage, Unsupported
from hypersdk.plugin import Nic
from hypersdk.plugin.provider import Firmware

_CPU, _MEMORY, _ETHERNET, _DISK = "3", "4", "10", "17"
_BUSES = {"5": "ide", "6": "scsi", "20": "sata"}
_UNITS = re.compile(r"^bytes?(\s*\*\s*(\d{1,10})(\s*\^\s*(\d{1,2}))?)?$")
_OLD_UNITS = {
    "kilobytes": 1 << 10,
    "megabytes": 1 << 20,
    "gigabytes": 1 << 30,
    "kb": 1 << 10,
    "mb": 1 << 20,
    "gb": 1 << 30,
}
_MAX_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class FileReference:
    """`href` as it stands in References, not yet judged. `compression`: "" or "gzip"; `chunk_bytes` > 0:
    split; `size_bytes` 0: not told."""

    id: str
    href: str
    compression: str = ""
    chunk_bytes: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """`file` None: an empty disk of `capacity_bytes`. `format_url` names the image's specification."""

    id: str
    file: FileReference | None
    capacity_bytes: int
    format_url: str = ""
    parent: str = ""
    bus: str = ""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The machine; `references` are all of References, whether or not a disk uses them."""

    name: str
    disks: tuple[OvfDisk, ...]
    references: tuple[FileReference, ...]
    nics: tuple[Nic, ...] = ()
    cpu_count: int = 0
    memory_bytes: int = 0
    firmware: Firmware = "unknown"
    guest_os: str = ""


def read(data: bytes, what: str) -> Descriptor:
    """Raises MalformedImage (OVF_…), Unsupported (OVF_COLLECTION_UNSUPPORTED)."""
    envelope = parse(data, what)
    if envelope.tag != "Envelope":
        raise _malformed(what, f"its outermost element is {envelope.tag[:40]!r}, not Envelope")
    if envelope.first("VirtualSystemCollection") is not None:
        raise Unsupported(
            f"{what} holds a collection of machines; split it into packages of one machine each",
            reason="OVF_COLLECTION_UNSUPPORTED",
        )
    system = envelope.first("VirtualSystem") or envelope.first("Content")  # Content: OVF 0.9
    if system is None:
        raise _malformed(what, "it has no VirtualSystem")
    files = _files(envelope, what)
    disks = _disks(envelope, files, what)
    hardware = system.first("VirtualHardwareSection") or Element("VirtualHardwareSection")
    items = list(_items(hardware, _default_configuration(envelope)))
    return Descriptor(
        name=system.value("Name") or system.attributes.get("id", ""),
        disks=_attached(items, disks, files, what),
        references=tuple(files.values()),
        nics=tuple(_nic(item, number) for number, item in enumerate(_of_type(items, _ETHERNET))),
        cpu_count=min(sum(_number(item.value("VirtualQuantity")) for item in _of_type(items, _CPU)), 1 << 16),
        memory_bytes=sum(_memory(item) for item in _of_type(items, _MEMORY)),
        firmware=_firmware(system, hardware),
        guest_os=_guest_os(system),
    )


def _files(envelope: Element, what: str) -> dict[str, FileReference]:
    out: dict[str, FileReference] = {}
    references = envelope.first("References") or Element("References")
    for element in references.all("File"):
        attributes = element.attributes
        key, href = attributes.get("id", ""), attributes.get("href", "")
        if not key or not href or key in out:
            raise _malformed(what, f"References has a File without id or href, or {key[:40]!r} twice")
        compression = attributes.get("compression", "")
        out[key] = FileReference(
            key, href, "" if compression == "identity" else compression,
            _number(attributes.get("chunkSize", "")), _number(attributes.get("size", "")),
        )  # fmt: skip
    return out


def _disks(envelope: Element, files: dict[str, FileReference], what: str) -> dict[str, OvfDisk]:
    out: dict[str, OvfDisk] = {}
    section = envelope.first("DiskSection") or envelope.first("Section") or Element("DiskSection")
    for element in section.all("Disk"):
        attributes = element.attributes
        key, reference = attributes.get("diskId", ""), attributes.get("fileRef", "")
        if not key or key in out:
            raise _malformed(what, f"DiskSection has a Disk without diskId, or {key[:40]!r} twice")
        if reference and reference not in files:
            raise _malformed(what, f"disk {key[:40]!r} refers to file {reference[:40]!r}, which References lacks")
        capacity = _number(attributes.get("capacity", "")) * _unit(attributes.get("capacityAllocationUnits", ""), 1)
        out[key] = OvfDisk(
            id=key,
            file=files[reference] if reference else None,
            capacity_bytes=capacity if 0 < capacity < _MAX_BYTES else -1,
            format_url=attributes.get("format", ""),
            parent=attributes.get("parentRef", ""),
        )
    return out


def _attached(
    items: list[Element], disks: dict[str, OvfDisk], files: dict[str, FileReference], what: str
) -> tuple[OvfDisk, ...]:
    """The disks that the hardware names, in its order; all of DiskSection when it names none."""
    buses = {item.value("InstanceID"): _BUSES.get(item.value("ResourceType"), "") for item in items}
    out: dict[str, OvfDisk] = {}
    for item in _of_type(items, _DISK):
        host = item.value("HostResource").removeprefix("ovf:")
        kind, _, key = host.strip("/").partition("/")
        if kind == "disk" and key in disks:
            disk = disks[key]
        elif kind == "file" and key in files:
            disk = OvfDisk(key, files[key], -1)
        else:
            raise _malformed(what, f"a disk item's HostResource {host[:60]!r} names no disk and no file")
        out[disk.id] = OvfDisk(
            disk.id, disk.file, disk.capacity_bytes, disk.format_url, disk.parent, buses.get(item.value("Parent"), "")
        )
    return tuple((out or disks).values())


def _items(hardware: Element, configuration: str) -> Iterator[Element]:
    """The resource items of the default deployment configuration; the bounds of a range are no items."""
    for element in hardware.children:
        if element.tag not in {"Item", "StorageItem", "EthernetPortItem"} or "bound" in element.attributes:
            continue
        wanted = element.attributes.get("configuration", "").split()
        if not wanted or configuration in wanted:
            yield element


def _default_configuration(envelope: Element) -> str:
    section = envelope.first("DeploymentOptionSection") or Element("DeploymentOptionSection")
    found = list(section.all("Configuration"))
    marked = [c for c in found if c.attributes.get("default") in {"true", "1"}] or found
    return marked[0].attributes.get("id", "") if marked else ""


def _of_type(items: list[Element], resource_type: str) -> Iterator[Element]:
    return (item for item in items if item.value("ResourceType") == resource_type)


def _nic(item: Element, number: int) -> Nic:
    return Nic(
        id=f"nic-{number}", mac_address=item.value("Address"), network=item.value("Connection"),
        model=item.value("ResourceSubType"),
    )  # fmt: skip


def _memory(item: Element) -> int:
    # The specification's default unit is the byte; products that leave the unit out mean MiB.
    size = _number(item.value("VirtualQuantity")) * _unit(item.value("AllocationUnits"), 1 << 20)
    return size if size < _MAX_BYTES else 0


def _firmware(system: Element, hardware: Element) -> Firmware:
    for config in hardware.all("Config"):  # vmw:Config
        if config.attributes.get("key") == "firmware":
            return "efi" if config.attributes.get("value", "").lower() == "efi" else "bios"
    machine = system.first("Machine")  # vbox:Machine
    hardware_of_box = machine.first("Hardware") if machine is not None else None
    firmware = hardware_of_box.first("Firmware") if hardware_of_box is not None else None
    if firmware is not None:
        return "efi" if firmware.attributes.get("type", "").upper().startswith("EFI") else "bios"
    return "unknown"


def _guest_os(system: Element) -> str:
    section = system.first("OperatingSystemSection")
    if section is None:
        return ""
    return section.value("Description") or section.attributes.get("osType", "")


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else 0


def _unit(text: str, default: int) -> int:
    """Bytes in one unit: "byte * 2^20" (DSP0004 annex C.1) or the names of OVF 0.9."""
    text = text.strip().lower()
    match = _UNITS.match(text)
    if match is None:
        return _OLD_UNITS.get(text, default)
    return int(match[2]) ** int(match[4] or 1) if match[2] else 1


def _malformed(what: str, problem: str) -> MalformedImage:
    return MalformedImage(f"{what}: {problem}", structure="OVF descriptor", reason="OVF_MALFORMED")
