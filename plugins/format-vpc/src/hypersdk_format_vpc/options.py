"""The options of `open` and `create`, by qemu-img's names and value syntax.

Values are judged here, once; everything behind works on the frozen results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_format_vpc.layout import DEFAULT_BLOCK, MIN_BLOCK

SUBFORMATS = ("dynamic", "fixed")
_BLOCKS = {"512K": MIN_BLOCK, "524288": MIN_BLOCK, "2M": DEFAULT_BLOCK, "2097152": DEFAULT_BLOCK}
_RULES = ("current_size", "chs")

CREATE_HELP: Mapping[str, str] = {
    "subformat": f"one of {', '.join(SUBFORMATS)}; default dynamic",
    "force_size": "on: exactly the size asked for; off: rounded up to the next that a geometry can say; default off",
    "block_size": "bytes of a block of a dynamic disk, 512K or 2M; default 2M",
}

OPEN_HELP: Mapping[str, str] = {
    "chain": "on: read the parents of a differencing disk from its own directory; off: open it for its information "
    "alone; default: refuse it",
    "ignore_timestamp": "on: read a parent whose timestamp is not what its child recorded; default off",
    "force_size_calc": "chs or current_size: which of the two sizes counts; default by the creator application",
}

_SWITCH = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}


class Chain(Enum):
    """What to do with a disk that has a parent."""

    REFUSED = "refused"
    INFORMATION_ONLY = "information only"
    READ = "read"


@dataclass(frozen=True, slots=True)
class OpenOptions:
    chain: Chain = Chain.REFUSED
    ignore_timestamp: bool = False
    size_rule: str = ""


@dataclass(frozen=True, slots=True)
class CreateOptions:
    fixed: bool = False
    force_size: bool = False
    block: int = DEFAULT_BLOCK


def parse_create(options: Mapping[str, str] | None) -> CreateOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = dict(options or {})
    _refuse_unknown(given, CREATE_HELP, "creating")
    subformat = given.get("subformat", "dynamic")
    if subformat not in SUBFORMATS:
        raise _wrong("subformat", f"must be one of {', '.join(SUBFORMATS)}, not {subformat[:40]!r}")
    block = given.get("block_size", "2M")
    if block.upper() not in _BLOCKS:
        raise _wrong("block_size", f"must be 512K or 2M, not {block[:40]!r}")
    return CreateOptions(subformat == "fixed", _switch(given, "force_size"), _BLOCKS[block.upper()])


def parse_open(options: Mapping[str, str] | None) -> OpenOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = dict(options or {})
    _refuse_unknown(given, OPEN_HELP, "reading")
    chain = Chain.REFUSED
    if "chain" in given:
        chain = Chain.READ if _switch(given, "chain") else Chain.INFORMATION_ONLY
    rule = given.get("force_size_calc", "")
    if rule and rule not in _RULES:
        raise _wrong("force_size_calc", f"must be one of {', '.join(_RULES)}, not {rule[:40]!r}")
    return OpenOptions(chain, _switch(given, "ignore_timestamp"), rule)


def _switch(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "off")
    if value.lower() not in _SWITCH:
        raise _wrong(name, f"must be on or off, not {value[:40]!r}")
    return _SWITCH[value.lower()]


def _refuse_unknown(given: Mapping[str, str], known: Mapping[str, str], doing: str) -> None:
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise InvalidArgument(
            f"vpc has no option {unknown[0][:80]!r} for {doing}; it has {', '.join(known)}",
            reason="OPTION_UNKNOWN",
            violations=tuple(FieldViolation(f"options.{name}", "is not an option of vpc") for name in unknown),
        )


def _wrong(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"vpc option {name} {what}", reason="OPTION_INVALID", violations=(FieldViolation(f"options.{name}", what),)
    )
