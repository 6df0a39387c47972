"""The options of `open` and `create`, by qemu-img's names and value syntax.

Values are judged here, once; everything behind works on the frozen results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk.data.formatoptions import Chain, FormatOptions

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

_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class CreateOptions:
    subformat: str = "monolithicSparse"
    adapter_type: str = "ide"
    hwversion: str = "4"
    toolsversion: str = "2147483647"
    zeroed_grain: bool = False


def parse_create(options: Mapping[str, str] | None) -> CreateOptions:
    """Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID)."""
    given = FormatOptions("vmdk", options, CREATE_HELP, doing="creating")
    compress = given.switch("compress")
    subformat = given.one_of("subformat", SUBFORMATS, "streamOptimized" if compress else "monolithicSparse")
    if compress and subformat != "streamOptimized":
        raise given.wrong("compress", f"cannot be on with subformat {subformat}: only streamOptimized is compressed")
    adapter = given.one_of("adapter_type", ADAPTERS, "ide")
    compat6 = given.switch("compat6")
    if compat6 and "hwversion" in given:
        raise given.wrong("compat6", "cannot be on when hwversion is given")
    for name in ("hwversion", "toolsversion"):
        if name in given and not _NUMBER.fullmatch(given.text(name)):
            raise given.refused(name, "a number")
    hwversion = given.text("hwversion", "6" if compat6 else "4")
    zeroed = given.switch("zeroed_grain")
    if zeroed and subformat not in SPARSE:
        raise given.wrong("zeroed_grain", f"cannot be on with subformat {subformat}")
    return CreateOptions(subformat, adapter, hwversion, given.text("toolsversion", "2147483647"), zeroed)


def parse_chain(options: Mapping[str, str] | None) -> Chain:
    """What to do with a delta disk. Raises InvalidArgument."""
    return FormatOptions("vmdk", options, OPEN_HELP, doing="reading").chain()
