"""Whole images through the installed format plugins, without a daemon: what `hyperctl image` and the tasks
call.

    registry    FormatRegistry: which formats are installed; imports a plugin only when it is used
    inspection  open_image, image_info, image_map, check, measure
    conversion  convert: crash-safe, resumable
    comparison  compare: byte for byte, knowing what is zero on both sides

The formats themselves are plugins; jobs, names and credentials are the kernel's.
"""

from hypersdk.data.images.comparison import Difference, compare
from hypersdk.data.images.conversion import convert
from hypersdk.data.images.inspection import check, image_info, image_map, measure, open_image
from hypersdk.data.images.registry import FormatRegistry

__all__ = [
    "Difference", "FormatRegistry", "check", "compare", "convert", "image_info", "image_map", "measure", "open_image",
]  # fmt: skip
