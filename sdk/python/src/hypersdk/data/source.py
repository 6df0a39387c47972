"""BlockSource: a virtual disk that can be read.

Its life: somebody who knows the format or the platform opens it (`ImageFormat.open`, `Provider.open_source`), any
number of threads read it, `close()` ends it. It never changes while it is open: a platform that cannot promise that
must snapshot first.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from hypersdk.data.extent import Extent, FileRange


class BlockSource(abc.ABC):
    """A readable virtual disk. Every method but `close` may be called from several threads at once."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Virtual size, bytes. Constant while open. May be any number >= 0, not only a multiple of 512."""

    @property
    def granularity(self) -> int:
        """Bytes of the unit in which the source is stored (cluster, grain, block; a power of two). Reads that are
        aligned to it are the cheap ones; a compressed source decodes one such unit at a time."""
        return 65536

    @abc.abstractmethod
    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """What [offset, offset+length) holds, in order, without gaps or overlaps, covering it exactly, neighbours
        of the same kind merged where that is cheap. `length` None means to the end.

        ZERO is a promise that the bytes read as zeros; DATA is none about the content. Cost grows with the tables
        that describe data, never with the virtual size. Raises OutOfRange past the end, MalformedImage for
        impossible tables.
        """

    @abc.abstractmethod
    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole of `buffer` (writable, contiguous, format "B") from `offset`. Zero extents are filled
        with zeros. All of it or an exception: OutOfRange past the end, MalformedImage / DataLoss when stored bytes
        are truncated, corrupt or decompress to another length."""

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:  # noqa: ARG002  for overriders
        """Where [offset, offset+length), which `extents` called DATA, lies in a plain file: ranges in order
        covering exactly `length` bytes. None when the bytes are not stored as they are (compressed, remote,
        encrypted); then use `readinto`."""
        return None

    def info(self) -> dict[str, Any]:
        """What is known of the image or disk, JSON-able, snake_case keys. Always has `format`, `virtual_size`;
        where it applies `cluster_size`, `subformat`, `compressed`, `backing_file`, `dirty`, and a dict `details` of
        format-specific fields."""
        return {"format": "unknown", "virtual_size": self.size}

    def close(self) -> None:  # noqa: B027  a source in memory has nothing to release
        """Release descriptors. Idempotent. No read may be in flight."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
