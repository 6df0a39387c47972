"""The options of `open` and `create`, by qemu-img's names and value syntax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk.data.formatoptions import CHAIN_HELP, Chain, FormatOptions

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
    "chain": CHAIN_HELP,
}


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
    given = FormatOptions("vhdx", options, CREATE_HELP, doing="creating", letters=False)
    return CreateOptions(
        fixed=given.one_of("subformat", SUBFORMATS, "dynamic") == "fixed",
        block_size=given.size(
            "block_size", "0", wanted="a power of two from 1M to 256M",
            accept=lambda size: size == 0 or (size & (size - 1) == 0 and MIB <= size <= MAX_BLOCK),
        ),
        log_size=given.size(
            "log_size", "1M", wanted="a multiple of 1M below 4G",
            accept=lambda size: size % MIB == 0 and MIB <= size < 1 << 32,
        ),
        block_state_zero=given.switch("block_state_zero", default=True),
    )  # fmt: skip


def parse_chain(options: Mapping[str, str] | None) -> Chain:
    """What to do with a differencing disk. Raises InvalidArgument."""
    return FormatOptions("vhdx", options, OPEN_HELP, doing="reading", letters=False).chain()
