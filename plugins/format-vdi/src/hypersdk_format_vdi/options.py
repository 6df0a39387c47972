"""The options of `open` and `create`, by qemu-img's names and value syntax.

Values are judged here, once; everything behind works on the frozen results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk.data.formatoptions import CHAIN_HELP, Chain, FormatOptions

from hypersdk_format_vdi.layout import DEFAULT_BLOCK

CREATE_HELP: Mapping[str, str] = {
    "static": "on: all blocks in the disk's order (holes of the disk are holes of the file); default off",
    "block_size": "bytes of a block; 1M, which all readers take, is the only one; default 1M",
}

OPEN_HELP: Mapping[str, str] = {
    "chain": CHAIN_HELP,
    "backing_file": "with chain=on: file names of the parents, nearest first, separated by ':'",
}

_BLOCKS = ("1M", "1048576")


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
    given = FormatOptions("vdi", options, CREATE_HELP, doing="creating")
    if given.text("block_size", "1M").upper() not in _BLOCKS:
        raise given.refused("block_size", "1M")
    return CreateOptions(given.switch("static"))


def parse_open(options: Mapping[str, str] | None) -> OpenOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = FormatOptions("vdi", options, OPEN_HELP, doing="reading")
    chain, names = given.chain(), given.text("backing_file")
    if names and chain is not Chain.READ:
        raise given.wrong("backing_file", "names parents to be read; give chain=on with it")
    return OpenOptions(chain, tuple(names.split(":")) if names else ())
