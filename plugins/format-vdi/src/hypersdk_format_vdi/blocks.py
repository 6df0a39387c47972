"""The block map: read a window at a time, because a large disk's is larger than the memory we allow ourselves, and
judged as a whole before any of it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from hypersdk.data.blockruns import ABSENT, ZEROED, Entries
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_vdi.header import Header
from hypersdk_format_vdi.layout import FREE, ZERO

Numbers = npt.NDArray[np.uint32]

_WINDOW = 1 << 18
"""Entries judged at once: 1 MiB."""


class Fault(NamedTuple):
    """A kind of fault in one window of the map: a sentence on the first one, and how many there are."""

    message: str
    times: int
    reason: str


class Census:
    """Goes over the whole map once. `stored`: entries that say where a block lies; `highest`: the largest of them."""

    def __init__(self, file: ImageFile, header: Header) -> None:
        self._file = file
        self._header = header
        self.stored = 0
        self.highest = -1

    def faults(self) -> Iterator[Fault]:
        """Blocks that lie beyond the file or beyond as many as the disk has, and blocks in one place."""
        header, name = self._header, self._file.path.name
        taken = np.zeros(header.blocks, dtype=np.bool_)  # by number in the file, in which there are no more
        end = self._file.size
        for first in range(0, header.blocks, _WINDOW):
            numbers = read_numbers(self._file, header, first, min(_WINDOW, header.blocks - first))
            index = np.flatnonzero(numbers < ZERO)
            if not len(index):
                continue
            places = numbers[index].astype(np.int64)
            self.stored += len(index)
            self.highest = max(self.highest, int(places.max()))
            used = np.clip(header.size - (index + first) * np.int64(header.block), 0, header.block)
            starts = header.data_offset + places * header.stride + header.extra
            bad = np.flatnonzero((places >= header.blocks) | (starts + used > end))
            if len(bad):
                at = int(bad[0])
                yield Fault(
                    f"{name}: block {int(index[at]) + first} is number {places[at]} in the file, at offset "
                    f"{starts[at]}, which is past its end at {end} or past the disk's {header.blocks} blocks; the "
                    "file is truncated or the block map corrupt", len(bad), "IMAGE_TRUNCATED",
                )  # fmt: skip
                places = places[places < header.blocks]
            held = np.count_nonzero(taken[places])
            ordered = np.sort(places)
            twice = int(held) + int(np.count_nonzero(ordered[1:] == ordered[:-1]))
            if twice:
                yield Fault(
                    f"{name}: of blocks {first} to {first + len(numbers) - 1}, {twice} lie where another block lies",
                    twice, "IMAGE_MALFORMED",
                )  # fmt: skip
            taken[places] = True


def judge(file: ImageFile, header: Header) -> None:
    """Raises MalformedImage for the first fault."""
    for fault in Census(file, header).faults():
        raise MalformedImage(
            fault.message, structure="block map", offset=header.map_offset, reason=fault.reason
        )


def read_numbers(file: ImageFile, header: Header, first: int, count: int) -> Numbers:
    raw = file.pread(header.map_offset + first * 4, count * 4, structure="block map")
    return np.frombuffer(raw, dtype="<u4")


def positions(file: ImageFile, header: Header, first: int, count: int) -> Entries:
    """Where the data of `count` blocks from `first` lies. The map must have been judged."""
    numbers = read_numbers(file, header, first, count)
    found = header.data_offset + numbers.astype(np.int64) * header.stride + header.extra
    found[numbers == FREE] = ABSENT
    found[numbers == ZERO] = ZEROED
    return found
