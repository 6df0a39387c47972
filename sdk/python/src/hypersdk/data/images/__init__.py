"""Whole images through the installed format plugins, without a daemon: what `hyperctl image` and the tasks call.

    registry    FormatRegistry: which formats are installed; imports a plugin only when it is used
    inspection  open_image, image_info, image_map, check, measure
    conversion  convert: crash-safe, resumable
    comparison  compare: byte for byte, knowing what is zero on both sides

The formats themselves are plugins; jobs, names and credentials are the kernel's. A name is imported when it is first
used: a command that only looks at an image does not pay for the pipeline.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypersdk.data.images.comparison import Difference, compare
    from hypersdk.data.images.conversion import convert
    from hypersdk.data.images.inspection import backing_chain, check, image_info, image_map, measure, open_image
    from hypersdk.data.images.registry import FormatRegistry

__all__ = [
    "Difference", "FormatRegistry", "backing_chain", "check", "compare", "convert", "image_info", "image_map",
    "measure", "open_image",
]  # fmt: skip

_HOMES = {
    "Difference": "comparison", "FormatRegistry": "registry", "backing_chain": "inspection",
    "check": "inspection", "compare": "comparison",
    "convert": "conversion", "image_info": "inspection", "image_map": "inspection", "measure": "inspection",
    "open_image": "inspection",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
