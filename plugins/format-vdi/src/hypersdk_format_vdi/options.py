"""The options of `open` and `create`, by qemu-img's names and value syntax.

Values are judged here, once; everything behind works on the frozen results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_format_vdi.layout import DEFAULT_BLOCK

CREATE_HELP: Mapping[str, str] = {
    "static": "on: all blocks in the disk's order (holes of the disk are holes of the file); default off",
    "block_size": "bytes of a block; 1M, which all readers take, is the only one; default 1M",
}

OPEN_HELP: Mapping[str, str] = {
    "chain": "on: read the parents of a differencing disk from its own directory; off: open it for its information "
    "alone; default: refuse it",
    "backing_file": "with chain=on: file names of the parents, nearest first, separated by ':'",
}

_BLOCKS = ("1M", "1048576")
_SWITCH = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}


class Chain(Enum):
    """What to do with a disk that has a parent."""

    REFUSED = "refused"
    INFORMATION_ONLY = "information only"
    READ = "read"


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """`parents`: names in the image's directory, nearest first."""

    chain: Chain = Chain.REFUSED
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateOptions:
    static: bool = False
    block: int = DEFAULT_BLOCK


def parse_create(options: Mapping[str, str] | None) -> CreateOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = dict(options or {})
    _refuse_unknown(given, CREATE_HELP, "creating")
    block = given.get("block_size", "1M")
    if block.upper() not in _BLOCKS:
        raise _wrong("block_size", f"must be 1M, not {block[:40]!r}")
    return CreateOptions(_switch(given, "static"))


def parse_open(options: Mapping[str, str] | None) -> OpenOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = dict(options or {})
    _refuse_unknown(given, OPEN_HELP, "reading")
    chain = Chain.REFUSED
    if "chain" in given:
        chain = Chain.READ if _switch(given, "chain") else Chain.INFORMATION_ONLY
    names = given.get("backing_file", "")
    if names and chain is not Chain.READ:
        raise _wrong("backing_file", "names parents to be read; give chain=on with it")
    return OpenOptions(chain, tuple(names.split(":")) if names else ())


def _switch(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "off")
    if value.lower() not in _SWITCH:
        raise _wrong(name, f"must be on or off, not {value[:40]!r}")
    return _SWITCH[value.lower()]


def _refuse_unknown(given: Mapping[str, str], known: Mapping[str, str], doing: str) -> None:
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise InvalidArgument(
            f"vdi has no option {unknown[0][:80]!r} for {doing}; it has {', '.join(known)}",
            reason="OPTION_UNKNOWN",
            violations=tuple(FieldViolation(f"options.{name}", "is not an option of vdi") for name in unknown),
        )


def _wrong(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"vdi option {name} {what}", reason="OPTION_INVALID", violations=(FieldViolation(f"options.{name}", what),)
    )
