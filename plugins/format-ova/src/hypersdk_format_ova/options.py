"""The options of `open` and `create`, judged once; everything behind works on the frozen results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypersdk.data.images.partial import published_name
from hypersdk.data.ovf.names import file_stem
from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.plugin.provider import Firmware

SUBFORMAT = "streamOptimized"
_BUSES = ("scsi", "sata", "ide")

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
    given = dict(options or {})
    _refuse_unknown(given, OPEN_HELP, "reading")
    return OpenOptions(given.pop("disk", ""), given)


def parse_create(options: Mapping[str, str] | None, path: Path | None = None) -> CreateOptions:
    """`path`: of the file, for the default name. Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = dict(options or {})
    _refuse_unknown(given, CREATE_HELP, "creating")
    if given.get("subformat", SUBFORMAT) != SUBFORMAT:
        raise _wrong("subformat", f"must be {SUBFORMAT}, which is what packages hold, not {given['subformat']!r}")
    bus = given.get("bus", "scsi")
    if bus not in _BUSES:
        raise _wrong("bus", f"must be one of {', '.join(_BUSES)}, not {bus!r}")
    default = Path(published_name(path)).stem if path is not None else ""
    name = _short(given, "name", default) or "machine"
    return CreateOptions(
        name=name,
        stem=file_stem(name),
        cpus=_cpus(given.get("cpus", "1")),
        memory_bytes=_memory(given.get("memory", "1GiB")),
        firmware=_firmware(given.get("firmware", "bios")),
        guest_os=_short(given, "os", ""),
        bus=bus,
        network=_short(given, "network", ""),
    )


def _short(given: Mapping[str, str], option: str, default: str) -> str:
    text = given.get(option, default).strip()
    if len(text) > _MAX_TEXT:
        raise _wrong(option, f"must have at most {_MAX_TEXT} characters, not {len(text)}")
    return text


def _firmware(text: str) -> Firmware:
    if text == "efi":
        return "efi"
    if text == "bios":
        return "bios"
    raise _wrong("firmware", f"must be bios or efi, not {text!r}")


def _cpus(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    if not 1 <= count <= _MAX_CPUS:
        raise _wrong("cpus", f"must be a number from 1 to {_MAX_CPUS}, not {text!r}")
    return count


def _memory(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2][0].lower()] if match else 0
    if not 0 < size <= _MAX_MEMORY:
        raise _wrong("memory", f"must be a size with its unit, such as 2048MiB or 4GiB, of at most 24TiB, not {text!r}")
    return size


def _refuse_unknown(given: Mapping[str, str], known: Mapping[str, str], doing: str) -> None:
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise InvalidArgument(
            f"ova has no option {unknown[0]!r} for {doing}; it has {', '.join(known)}",
            reason="OPTION_UNKNOWN",
            violations=tuple(FieldViolation(f"options.{name}", "is not an option of ova") for name in unknown),
        )


def _wrong(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"ova option {name} {what}", reason="OPTION_INVALID", violations=(FieldViolation(f"options.{name}", what),)
    )
