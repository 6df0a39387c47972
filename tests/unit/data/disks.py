"""Disks in memory for the tests of the data path: a source and a sink that hold the contracts' duties to account."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator

from hypersdk.data.extent import Extent, ExtentKind, FileRange, clip
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.data.source import BlockSource
from hypothesis import strategies as st

Layout = list[tuple[int, ExtentKind, int]]


class MemorySource(BlockSource):
    """`layout`: (length, kind, byte); ZERO parts ignore the byte. `on_read` may raise."""

    def __init__(
        self, layout: Layout, *, unit: int = 512, on_read: Callable[[int, int], None] | None = None
    ) -> None:
        self.unit = unit
        self.on_read = on_read
        self.parts: list[Extent] = []
        content = bytearray()
        for number, (length, kind, byte) in enumerate(layout):
            self.parts.append(Extent(len(content), length, kind))
            if kind == ExtentKind.ZERO or byte == 0:
                content += bytes(length)
            else:
                pattern = bytes((byte + number + i) % 255 + 1 for i in range(64))
                content += (pattern * (length // 64 + 1))[:length]
        self.content = bytes(content)
        self.reads = 0
        self.lock = threading.Lock()

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def granularity(self) -> int:
        return self.unit

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        return clip(self.parts, offset, self.size if length is None else offset + length)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        assert 0 <= offset <= offset + len(buffer) <= self.size
        with self.lock:
            self.reads += 1
        if self.on_read is not None:
            self.on_read(offset, len(buffer))
        buffer[:] = self.content[offset : offset + len(buffer)]


class FileSource(MemorySource):
    """A MemorySource whose DATA lies in a plain file as well, `cut` bytes a range."""

    def __init__(self, layout: Layout, fd: int, *, unit: int = 512, cut: int = 1 << 20) -> None:
        super().__init__(layout, unit=unit)
        self.fd = fd
        self.cut = cut

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        assert all(e.kind == ExtentKind.DATA for e in self.extents(offset, length))
        return (
            FileRange(self.fd, at, min(self.cut, offset + length - at))
            for at in range(offset, offset + length, self.cut)
        )


class MemorySink(BlockSink):
    """Insists on ascending, aligned, gapless calls. `on_write` may raise before anything is stored."""

    def __init__(
        self,
        size: int,
        *,
        unit: int = 512,
        encodes: bool = False,
        takes_files: bool = False,
        on_write: Callable[[int], None] | None = None,
        content: bytes = b"",
    ) -> None:
        self.unit = unit
        self.encodes = encodes
        self.takes_files = takes_files
        self.on_write = on_write
        self.content = bytearray(content) + bytes(size - len(content))
        self.at = len(content)
        self.written = 0
        self.zero_calls = 0
        self.file_bytes = 0
        self.finished = self.aborted = False

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def granularity(self) -> int:
        return self.unit

    def _arrive(self, offset: int, length: int) -> None:
        assert not self.finished
        assert offset == self.at
        assert length > 0
        assert offset % self.unit == 0
        assert offset + length == self.size or length % self.unit == 0
        self.at += length
        if self.on_write is not None:
            self.on_write(offset)

    def write(self, offset: int, data: Buffer) -> None:
        self._arrive(offset, len(data))
        self.content[offset : offset + len(data)] = data
        self.written += len(data)

    def zero(self, offset: int, length: int) -> None:
        self._arrive(offset, length)
        self.zero_calls += 1

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        import os

        if not self.takes_files:
            return False
        self._arrive(offset, source.length)
        self.content[offset : offset + source.length] = os.pread(source.fd, source.length, source.file_offset)
        self.file_bytes += source.length
        return True

    def encode(self, offset: int, data: Buffer) -> object:
        return ("encoded", bytes(data)[::-1])

    def write_encoded(self, offset: int, encoded: object) -> None:
        mark, data = encoded
        assert mark == "encoded"
        self.write(offset, data[::-1])

    def checkpoint(self) -> dict[str, object]:
        return {"at": self.at, "content": bytes(self.content[: self.at])}

    def finish(self) -> dict[str, object]:
        assert self.at == self.size
        self.finished = True
        return {"allocated_bytes": self.written}

    def abort(self) -> None:
        self.aborted = True


def full_disk_after(limit: int) -> Callable[[int], None]:
    """An `on_write` for a medium that is full from `limit` on."""

    def on_write(offset: int) -> None:
        if offset >= limit:
            raise OSError(errno.ENOSPC, "No space left on device")

    return on_write


LENGTHS = st.one_of(st.integers(1, 5000), st.integers(1, 40).map(lambda n: n * 4096), st.just(1 << 20))
KINDS = st.sampled_from([ExtentKind.ZERO, ExtentKind.DATA])
LAYOUTS = st.lists(st.tuples(LENGTHS, KINDS, st.integers(0, 200)), min_size=0, max_size=12)
UNITS = st.sampled_from([1, 512, 4096, 65536])
