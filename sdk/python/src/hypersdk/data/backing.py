"""Files under an image: the rules for parents and backing files that all formats share.

A parent is a plain file beside its child (ImageFile.open_sibling), no file is in its own chain, and no chain is longer
than MAX_CHAIN files. The format of a backing file is what the image or the user says: guest data is never probed. How
an image names its parent, and how that is proved to be the right one, is the format's own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypersdk.errors import FailedPrecondition, MalformedImage

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.source import BlockSource

MAX_CHAIN = 64
Seen = tuple[tuple[int, int], ...]
"""Device and inode of the files of a chain, from the top."""


def open_parent(
    file: ImageFile, name: str, above: Seen, *, structure: str, reason: str
) -> tuple[ImageFile, Seen]:
    """The file that `file` names as its parent in `structure`, closed with it, and the chain down to `file`, of which
    `above` are the files over it. Raises MalformedImage with `reason`, and what ImageFile.open_sibling raises."""
    seen = (*above, _identity(file))
    sibling = file.open_sibling(name, structure=structure)
    if _identity(sibling) in seen or len(seen) >= MAX_CHAIN:
        raise MalformedImage(
            f"{file.path.name}: its chain of parents at {name!r} runs in a circle or is longer than {MAX_CHAIN} files",
            structure=structure, reason=reason,
        )  # fmt: skip
    return sibling, seen


def backing_refusal(file: ImageFile, name: str, format_name: str) -> FailedPrecondition:
    """The error for reading `file` without its backing file. `format_name`: if the image records it, else ""."""
    return FailedPrecondition(
        f"{file.path.name} holds only the changes to its backing file {name!r}; give chain=on to read both",
        reason="IMAGE_HAS_PARENT",
        metadata={"parent": name, "parent_format": format_name},
    )


def backing_format(file: ImageFile, name: str, recorded: str, given: str) -> str:
    """Raises FailedPrecondition (BACKING_FORMAT_UNKNOWN) if neither the image nor the user says it."""
    if recorded or given:
        return recorded or given
    raise FailedPrecondition(
        f"{file.path.name} does not record the format of its backing file {name!r}, and guessing it from what a guest "
        "may have written is not safe; give backing_fmt=FORMAT",
        reason="BACKING_FORMAT_UNKNOWN", metadata={"parent": name},
    )  # fmt: skip


def open_foreign(file: ImageFile, format_name: str) -> BlockSource:
    """A backing file of another format, by that format's plugin, without a chain of its own."""
    from hypersdk.data.images import FormatRegistry

    return FormatRegistry.installed().get(format_name).open(file)


def _identity(file: ImageFile) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino
