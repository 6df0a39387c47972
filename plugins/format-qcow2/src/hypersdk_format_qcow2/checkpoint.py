"""Checkpoint: what a writer must remember beside its file to go on in it.

Small, because the tables are in the file by then; the refcounts of compressed clusters are recounted from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hypersdk.errors import InvalidArgument

from hypersdk_format_qcow2.options import CreateOptions

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """next     first guest cluster that is not written
    end      first host cluster that is not allocated
    fill     byte at which the open cluster of compressed data goes on
    batches  offsets in bytes of the batches of refcount blocks that are written
    data, compressed    guest clusters written, and how many of them compressed
    """

    size: int
    options: CreateOptions
    next: int
    end: int
    fill: int
    batches: tuple[int, ...]
    data: int
    compressed: int

    def to_json(self) -> dict[str, Any]:
        out = asdict(self)
        return {**out, "version": _VERSION, "batches": list(self.batches)}

    @classmethod
    def parse(cls, state: Mapping[str, Any], size: int, options: CreateOptions, file_size: int) -> Checkpoint:
        """The checkpoint in `state`. Raises InvalidArgument (RESUME_STATE_INVALID) when it is of another image, or
        the file of `file_size` bytes is shorter than it says."""
        fits = (
            state.get("version") == _VERSION and state.get("size") == size and state.get("options") == asdict(options)
        )
        numbers = {name: state.get(name) for name in ("next", "end", "fill", "data", "compressed")}
        batches = state.get("batches")
        if not fits or not isinstance(batches, list) or not all(_natural(n) for n in (*numbers.values(), *batches)):
            raise _invalid("it is of another disk, other options or another version of this writer")
        found = cls(size, options, batches=tuple(batches), **{name: int(str(n)) for name, n in numbers.items()})
        if found.end << options.cluster_bits > file_size or found.fill > found.end << options.cluster_bits:
            raise _invalid(f"the file has {file_size} bytes, fewer than were written")
        return found


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _invalid(why: str) -> InvalidArgument:
    return InvalidArgument(f"cannot resume from this checkpoint: {why}; start anew", reason="RESUME_STATE_INVALID")
