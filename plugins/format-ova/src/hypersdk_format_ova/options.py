"""The options of `open` and `create`, judged once; everything behind works on the frozen results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypersdk.data.formatoptions import FormatOptions
from hypersdk.data.images.partial import published_name
from hypersdk.data.ovf.names import file_stem
from hypersdk.plugin.provider import Firmware

SUBFORMAT = "streamOptimized"
_BUSES = ("scsi", "sata", "ide")
_FIRMWARE: Mapping[str, Firmware] = {"bios": "bios", "efi": "efi"}

CREATE_HELP: Mapping[str, str] = {
    "name": "the machine's name; default the file's, without its extension",
    "cpus": "virtual CPUs, 1 to 768; default 1",
    "memory": "the machine's memory, such as 2048MiB or 4GiB; default 1GiB",
    "firmware": "bios or efi; default bios",
    "os": "the guest: VMware's id such as debian12_64Guest, a CIM number such as 96, or any text; default none",
    "bus": f"the disk's controller, one of {', '.join(_BUSES)}; default scsi",
    "network": "the network of the machine's one NIC; default no NIC",
    "subformat": f"layout of the disk, only {SUBFORMAT}",
}
OPEN_HELP: Mapping[str, str] = {
    "disk": "which disk: its diskId, or its number, counted from 0; default the first that has a file",
    "chain": "as the disk's own format takes it",
}

_SIZE = re.compile(r"([0-9]{1,9})\s*(M|MB|MiB|G|GB|GiB|T|TB|TiB)", re.IGNORECASE)
_UNITS = {"m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MAX_MEMORY = 24 << 40  # of one machine in vSphere 8, bytes
_MAX_CPUS = 768
_MAX_TEXT = 255


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """`inner`: for the disk's own format."""

    disk: str
    inner: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """`stem`: of the file names in the package."""

    name: str
    stem: str
    cpus: int
    memory_bytes: int
    firmware: Firmware
    guest_os: str
    bus: str
    network: str


def parse_open(options: Mapping[str, str] | None) -> OpenOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN)."""
    given = FormatOptions("ova", options, OPEN_HELP, doing="reading")
    return OpenOptions(given.text("disk"), {"chain": given.text("chain")} if "chain" in given else {})


def parse_create(options: Mapping[str, str] | None, path: Path | None = None) -> CreateOptions:
    """`path`: of the file, for the default name. Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = FormatOptions("ova", options, CREATE_HELP, doing="creating")
    if given.text("subformat", SUBFORMAT) != SUBFORMAT:
        raise given.refused("subformat", f"{SUBFORMAT}, which is what packages hold")
    default = Path(published_name(path)).stem if path is not None else ""
    name = _short(given, "name", default) or "machine"
    return CreateOptions(
        name=name,
        stem=file_stem(name),
        cpus=_cpus(given),
        memory_bytes=_memory(given),
        firmware=given.choice("firmware", _FIRMWARE, "bios"),
        guest_os=_short(given, "os", ""),
        bus=given.one_of("bus", _BUSES, "scsi"),
        network=_short(given, "network", ""),
    )


def _short(given: FormatOptions, option: str, default: str) -> str:
    text = given.text(option, default).strip()
    if len(text) > _MAX_TEXT:
        raise given.wrong(option, f"must have at most {_MAX_TEXT} characters, not {len(text)}")
    return text


def _cpus(given: FormatOptions) -> int:
    text = given.text("cpus", "1")
    count = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    if not 1 <= count <= _MAX_CPUS:
        raise given.refused("cpus", f"a number from 1 to {_MAX_CPUS}")
    return count


def _memory(given: FormatOptions) -> int:
    match = _SIZE.fullmatch(given.text("memory", "1GiB").strip())
    size = int(match[1]) * _UNITS[match[2][0].lower()] if match else 0
    if not 0 < size <= _MAX_MEMORY:
        raise given.refused("memory", "a size with its unit, such as 2048MiB or 4GiB, of at most 24TiB")
    return size
