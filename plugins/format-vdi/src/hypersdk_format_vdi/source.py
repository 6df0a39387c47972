"""VdiSource: a judged block map over an optional parent; everything but the map is MappedSource's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypersdk.data.blockruns import BlockRuns, Entries, Run, RunKind
from hypersdk.data.extent import Extent
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.mappedsource import MappedSource
from hypersdk.data.source import BlockSource
from hypersdk.data.sparse import file_extents
from hypersdk.errors import FailedPrecondition

from hypersdk_format_vdi.blocks import positions
from hypersdk_format_vdi.header import Header
from hypersdk_format_vdi.layout import TYPE_STATIC


class VdiSource(MappedSource):
    """Dynamic, static or differencing: they differ only in what their maps hold."""

    def __init__(
        self,
        file: ImageFile,
        header: Header,
        facts: dict[str, Any],
        *,
        parent: BlockSource | None = None,
        refusal: FailedPrecondition | None = None,
    ) -> None:
        super().__init__(file, header.size, parent=parent, refusal=refusal)
        self._header = header
        self._facts = facts
        self._map = BlockRuns(self._load, header.block)

    @property
    def granularity(self) -> int:
        return self._header.block

    def _load(self, first: int, count: int) -> Entries:
        return positions(self._file, self._header, first, count)

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        return self._map.runs(offset, end)

    def _extents(self, offset: int, end: int) -> Iterator[Extent]:
        """A static image has all its blocks: there the holes of the file tell what need not be read."""
        if self._header.kind != TYPE_STATIC:
            yield from super()._extents(offset, end)
            return
        for run in self.runs(offset, end):
            if run.kind is not RunKind.DATA:
                yield from super()._extents(run.offset, run.offset + run.length)
                continue
            start = self._file.base + run.position
            for extent in file_extents(self._file.fileno(), start, start + run.length):
                yield extent._replace(offset=run.offset + extent.offset - start)

    def info(self) -> dict[str, Any]:
        return {"format": "vdi", "virtual_size": self.size, "cluster_size": self._header.block, **self._facts}
