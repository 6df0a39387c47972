"""ForwardingSource and ForwardingSink: every method of the contract handed to another of the same type.

A filter subclasses one of them and overrides what it changes. They name every method, so a method that the contract
gains is forwarded only after somebody has decided that here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypersdk.data.extent import Extent, FileRange
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.data.source import BlockSource


class ForwardingSource(BlockSource):
    """Owns `inner`: closing this closes that."""

    def __init__(self, inner: BlockSource) -> None:
        self._inner = inner

    @property
    def size(self) -> int:
        return self._inner.size

    @property
    def granularity(self) -> int:
        return self._inner.granularity

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        return self._inner.extents(offset, length)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._inner.readinto(offset, buffer)

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        return self._inner.file_ranges(offset, length)

    def info(self) -> dict[str, Any]:
        return self._inner.info()

    def close(self) -> None:
        self._inner.close()


class ForwardingSink(BlockSink):
    """Ends with `inner`: finish and abort are passed on."""

    def __init__(self, inner: BlockSink) -> None:
        self._inner = inner
        self.random_access = inner.random_access
        self.encodes = inner.encodes

    @property
    def size(self) -> int:
        return self._inner.size

    @property
    def granularity(self) -> int:
        return self._inner.granularity

    def write(self, offset: int, data: Buffer) -> None:
        self._inner.write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self._inner.zero(offset, length)

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        return self._inner.write_file_range(offset, source)

    def encode(self, offset: int, data: Buffer) -> object:
        return self._inner.encode(offset, data)

    def write_encoded(self, offset: int, encoded: object) -> None:
        self._inner.write_encoded(offset, encoded)

    def checkpoint(self) -> dict[str, Any] | None:
        return self._inner.checkpoint()

    def finish(self) -> dict[str, Any]:
        return self._inner.finish()

    def abort(self) -> None:
        self._inner.abort()
