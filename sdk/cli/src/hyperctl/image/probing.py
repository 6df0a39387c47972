"""Which format a file is read as, when the user left that open.

Only then is content probed, and a result of "raw" is said: raw takes anything, so a damaged or unknown image
would otherwise be copied as if its container were the disk.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypersdk.data.images import FormatRegistry

_SURE = 1


def source_format(path: str, given: str, registry: FormatRegistry, *, quiet: bool = False) -> str:
    """`given`, or the name of the format that is surest of the file. Raises NotFound, InvalidArgument
    (FORMAT_UNRECOGNISED)."""
    if given:
        return given
    from hypersdk.data.imagefile import ImageFile

    with ImageFile.open(path) as file:
        image_format, score = registry.probe(file)
    if score <= _SURE and not quiet:
        sys.stderr.write(f"hyperctl: {path} has the mark of no known format; reading it as {image_format.name} "
                         f"(-f {image_format.name} says so)\n")  # fmt: skip
    return image_format.name
