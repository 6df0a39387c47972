"""The options of `open` and `create`, by qemu-img's names and value syntax."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_format_vhdx.layout import MAX_BLOCK, MIB

SUBFORMATS = ("dynamic", "fixed")

CREATE_HELP: Mapping[str, str] = {
    "subformat": "dynamic: blocks are allocated when they hold data; fixed: all are; default dynamic",
    "block_size": "bytes, a power of two from 1M to 256M; 0 or default: 8M to 64M by the size of the disk",
    "log_size": "bytes of the log, a multiple of 1M below 4G; default 1M",
    "block_state_zero": "on: mark blocks that hold nothing ZERO; off: leave them NOT_PRESENT, which readers may return "
    "as anything; dynamic only; default on",
}

OPEN_HELP: Mapping[str, str] = {
    "chain": "on: read the parents of a differencing disk from its own directory; off: open it for its information "
    "alone; default: refuse it",
}

_SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
_SIZE = re.compile(r"(\d{1,12})([kKmMgG]?)(?:i?[bB])?")
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30}


class Chain(Enum):
    """What to do with a disk that has a parent."""

    REFUSED = "refused"
    INFORMATION_ONLY = "information only"
    READ = "read"


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Sizes in bytes; block_size 0 leaves it to the size of the disk."""

    fixed: bool = False
    block_size: int = 0
    log_size: int = MIB
    block_state_zero: bool = True

    def block_for(self, size: int) -> int:
        """The block size for a disk of `size` bytes: QEMU's steps, which keep the table below 8 MiB."""
        if self.block_size:
            return self.block_size
        steps = ((32 << 40, 64 * MIB), (100 << 30, 32 * MIB), (1 << 30, 16 * MIB))
        return next((block for above, block in steps if size > above), 8 * MIB)


def parse_create(options: Mapping[str, str] | None) -> CreateOptions:
    """Raises InvalidArgument."""
    given = dict(options or {})
    _refuse_unknown(given, CREATE_HELP, "creating")
    subformat = given.get("subformat", "dynamic")
    if subformat not in SUBFORMATS:
        raise _wrong("subformat", f"must be one of {', '.join(SUBFORMATS)}, not {subformat!r}")
    block = _size(given, "block_size", "0")
    if block and (block & (block - 1) or not MIB <= block <= MAX_BLOCK):
        raise _wrong("block_size", f"must be a power of two from 1M to 256M, not {given['block_size']!r}")
    log = _size(given, "log_size", "1M")
    if log % MIB or not MIB <= log < 1 << 32:
        raise _wrong("log_size", f"must be a multiple of 1M below 4G, not {given['log_size']!r}")
    return CreateOptions(subformat == "fixed", block, log, _switch(given, "block_state_zero", "on"))


def parse_chain(options: Mapping[str, str] | None) -> Chain:
    """What to do with a differencing disk. Raises InvalidArgument."""
    given = dict(options or {})
    _refuse_unknown(given, OPEN_HELP, "reading")
    if "chain" not in given:
        return Chain.REFUSED
    return Chain.READ if _switch(given, "chain", "off") else Chain.INFORMATION_ONLY


def _size(given: Mapping[str, str], name: str, default: str) -> int:
    match = _SIZE.fullmatch(given.get(name, default))
    if match is None:
        raise _wrong(name, f"must be a size like 16M, not {given[name]!r}")
    return int(match[1]) << _SHIFT[match[2].lower()]


def _switch(given: Mapping[str, str], name: str, default: str) -> bool:
    value = given.get(name, default)
    if value.lower() not in _SWITCH:
        raise _wrong(name, f"must be on or off, not {value!r}")
    return _SWITCH[value.lower()]


def _refuse_unknown(given: Mapping[str, str], known: Mapping[str, str], doing: str) -> None:
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise InvalidArgument(
            f"vhdx has no option {unknown[0]!r} for {doing}; it has {', '.join(known)}",
            reason="OPTION_UNKNOWN",
            violations=tuple(FieldViolation(f"options.{name}", "is not an option of vhdx") for name in unknown),
        )


def _wrong(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"vhdx option {name} {what}", reason="OPTION_INVALID", violations=(FieldViolation(f"options.{name}", what),)
    )
