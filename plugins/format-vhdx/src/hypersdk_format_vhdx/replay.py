"""ReplayedFile: an image file as it would be if its log had been replayed. The file itself is never written to.

What the log changes lies over the file as pieces in memory; everything that parses or reads an image reads through
here. Which entries count is `log`'s decision.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Update:
    """[start, end) of the file gets `sector` (of 4 KiB, as its three parts), or zeros when that is None. Bytes."""

    start: int
    end: int
    sector: tuple[bytes, memoryview, bytes] | None = None

    def content(self) -> bytes:
        assert self.sector is not None
        return b"".join(self.sector)


def latest(updates: Iterable[Update]) -> list[Update]:
    """Disjoint updates in order of offset with the effect of `updates`, which come newest first: of each only what no
    newer one covers. Cost n log n, whatever their order and overlaps."""
    starts: list[int] = []
    ends: list[int] = []  # covered so far: disjoint, in order, neighbours merged
    kept: list[Update] = []
    for update in updates:
        if update.start >= update.end:
            continue
        low = bisect.bisect_left(ends, update.start)
        high = bisect.bisect_right(starts, update.end)
        at = update.start
        for index in range(low, high):
            if at < starts[index]:
                kept.append(_part(update, at, min(starts[index], update.end)))
            at = max(at, ends[index])
        if at < update.end:
            kept.append(_part(update, at, update.end))
        if low < high:
            starts[low:high] = [min(update.start, starts[low])]
            ends[low:high] = [max(update.end, ends[high - 1])]
        else:
            starts.insert(low, update.start)
            ends.insert(low, update.end)
    return sorted(kept, key=lambda update: update.start)


def _part(update: Update, start: int, end: int) -> Update:
    """Data updates are whole aligned sectors, so a part of one is all of it."""
    return Update(start, end, update.sector)


class ReplayedFile:
    """`file` below `updates` (disjoint, in order). `size`: bytes, at least the file's; what the log lets the file grow
    by reads as zeros. Thread-safe."""

    def __init__(self, file: ImageFile, updates: list[Update] | None = None, size: int = 0) -> None:
        self.file = file
        self.name = file.path.name
        self.stored = file.size
        self.size = max(size, self.stored)
        self._updates = updates or []
        self._starts = [update.start for update in self._updates]

    @property
    def replayed(self) -> bool:
        return bool(self._updates) or self.size > self.stored

    def pread(self, offset: int, length: int, *, structure: str) -> bytes:
        """Exactly `length` bytes; MalformedImage naming `structure` when the file ends before."""
        if not self.replayed:
            return self.file.pread(offset, length, structure=structure)
        self._check(offset, length, structure)
        buffer = bytearray(length)
        self.preadinto(offset, memoryview(buffer), structure=structure)
        return bytes(buffer)

    def preadinto(self, offset: int, buffer: memoryview, *, structure: str) -> None:
        """Fill `buffer`, or raise as `pread`."""
        if not self.replayed:
            self.file.preadinto(offset, buffer, structure=structure)
            return
        self._check(offset, len(buffer), structure)
        held = max(0, min(len(buffer), self.stored - offset))
        if held:
            self.file.preadinto(offset, buffer[:held], structure=structure)
        fill_zeros(buffer[held:])
        end = offset + len(buffer)
        for update in self._touching(offset, end):
            low, high = max(offset, update.start), min(end, update.end)
            view = buffer[low - offset : high - offset]
            if update.sector is None:
                fill_zeros(view)
            else:
                view[:] = update.content()[low - update.start : high - update.start]

    def is_plain(self, offset: int, length: int) -> bool:
        """Do these bytes lie in the file just so?"""
        return self.plain_until(offset, offset + length) == offset + length

    def plain_until(self, start: int, end: int) -> int:
        """The first byte of [start, end) that does not lie in the file just so, or `end`."""
        touching = self._touching(start, end)
        changed = max(start, touching[0].start) if touching else end
        return max(start, min(end, self.stored, changed))

    def _touching(self, start: int, end: int) -> list[Update]:
        first = max(0, bisect.bisect_right(self._starts, start) - 1)
        last = bisect.bisect_left(self._starts, end)
        return [update for update in self._updates[first:last] if update.end > start]

    def _check(self, offset: int, length: int, structure: str) -> None:
        if offset + length > self.size:
            raise MalformedImage(
                f"{self.name}: {structure} at offset {offset} needs {length} bytes, but the file has only {self.size} "
                "with its log replayed; it is truncated or its tables are corrupt",
                structure=structure, offset=offset, reason="IMAGE_TRUNCATED",
            )  # fmt: skip


def fill_zeros(view: memoryview) -> None:
    for at in range(0, len(view), len(_ZEROS)):
        piece = view[at : at + len(_ZEROS)]
        piece[:] = _ZEROS[: len(piece)]
