"""The options of `open` and `create`, by qemu-img's names and value syntax.

Values are judged here, once; everything behind works on the frozen results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk.data.formatoptions import CHAIN_HELP, Chain, FormatOptions

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
    "chain": CHAIN_HELP,
    "ignore_timestamp": "on: read a parent whose timestamp is not what its child recorded; default off",
    "force_size_calc": "chs or current_size: which of the two sizes counts; default by the creator application",
}


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
    given = FormatOptions("vpc", options, CREATE_HELP, doing="creating")
    subformat = given.one_of("subformat", SUBFORMATS, "dynamic")
    block = given.text("block_size", "2M").upper()
    if block not in _BLOCKS:
        raise given.refused("block_size", "512K or 2M")
    return CreateOptions(subformat == "fixed", given.switch("force_size"), _BLOCKS[block])


def parse_open(options: Mapping[str, str] | None) -> OpenOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = FormatOptions("vpc", options, OPEN_HELP, doing="reading")
    rule = given.text("force_size_calc") and given.one_of("force_size_calc", _RULES, "")
    return OpenOptions(given.chain(), given.switch("ignore_timestamp"), rule)
