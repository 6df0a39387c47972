"""The options of `open` and `create`, by qemu-img's names and value syntax.

Values are judged here, once; everything behind works on the frozen results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hypersdk.errors import FieldViolation, InvalidArgument

ONE_FILE = ("monolithicSparse", "streamOptimized")
SEVERAL_FILES = ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat")
SUBFORMATS = ONE_FILE + SEVERAL_FILES
SPARSE = ("monolithicSparse", "twoGbMaxExtentSparse")
ADAPTERS = ("ide", "lsilogic", "buslogic", "legacyESX")

CREATE_HELP: Mapping[str, str] = {
    "subformat": f"layout, one of {', '.join(SUBFORMATS)}; default monolithicSparse",
    "adapter_type": f"virtual controller, one of {', '.join(ADAPTERS)}; default ide",
    "hwversion": "virtual hardware version, a number; default 4",
    "compat6": "on: for VMware version 6, the same as hwversion=6; default off",
    "toolsversion": "version of VMware Tools in the guest, a number; default 2147483647 (not managed)",
    "zeroed_grain": "on: allow zeroed-grain entries (header version 2); sparse subformats only; default off",
    "compress": "on: the same as subformat=streamOptimized; default off",
}

OPEN_HELP: Mapping[str, str] = {
    "chain": "on: read the parents of a delta disk from its own directory; off: open it for its information alone; "
    "default: refuse it",
}

_SWITCH = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}
_NUMBER = re.compile(r"[0-9]{1,10}")


class Chain(Enum):
    """What to do with a disk that has a parent."""

    REFUSED = "refused"
    INFORMATION_ONLY = "information only"
    READ = "read"


@dataclass(frozen=True, slots=True)
class CreateOptions:
    subformat: str = "monolithicSparse"
    adapter_type: str = "ide"
    hwversion: str = "4"
    toolsversion: str = "2147483647"
    zeroed_grain: bool = False


def parse_create(options: Mapping[str, str] | None) -> CreateOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = dict(options or {})
    _refuse_unknown(given, CREATE_HELP, "creating")
    compress = _switch(given, "compress")
    subformat = given.get("subformat", "streamOptimized" if compress else "monolithicSparse")
    if subformat not in SUBFORMATS:
        raise _wrong("subformat", f"must be one of {', '.join(SUBFORMATS)}, not {subformat!r}")
    if compress and subformat != "streamOptimized":
        raise _wrong("compress", f"cannot be on with subformat {subformat}: only streamOptimized is compressed")
    adapter = given.get("adapter_type", "ide")
    if adapter not in ADAPTERS:
        raise _wrong("adapter_type", f"must be one of {', '.join(ADAPTERS)}, not {adapter!r}")
    hwversion = given.get("hwversion")
    if _switch(given, "compat6"):
        if hwversion is not None:
            raise _wrong("compat6", "cannot be on when hwversion is given")
        hwversion = "6"
    for name in ("hwversion", "toolsversion"):
        if name in given and not _NUMBER.fullmatch(given[name]):
            raise _wrong(name, f"must be a number, not {given[name]!r}")
    zeroed = _switch(given, "zeroed_grain")
    if zeroed and subformat not in SPARSE:
        raise _wrong("zeroed_grain", f"cannot be on with subformat {subformat}")
    return CreateOptions(subformat, adapter, hwversion or "4", given.get("toolsversion", "2147483647"), zeroed)


def parse_chain(options: Mapping[str, str] | None) -> Chain:
    """What to do with a delta disk. Raises InvalidArgument."""
    given = dict(options or {})
    _refuse_unknown(given, OPEN_HELP, "reading")
    if "chain" not in given:
        return Chain.REFUSED
    return Chain.READ if _switch(given, "chain") else Chain.INFORMATION_ONLY


def _switch(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "off")
    if value.lower() not in _SWITCH:
        raise _wrong(name, f"must be on or off, not {value!r}")
    return _SWITCH[value.lower()]


def _refuse_unknown(given: Mapping[str, str], known: Mapping[str, str], doing: str) -> None:
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise InvalidArgument(
            f"vmdk has no option {unknown[0]!r} for {doing}; it has {', '.join(known)}",
            reason="OPTION_UNKNOWN",
            violations=tuple(FieldViolation(f"options.{name}", "is not an option of vmdk") for name in unknown),
        )


def _wrong(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"vmdk option {name} {what}", reason="OPTION_INVALID", violations=(FieldViolation(f"options.{name}", what),)
    )
