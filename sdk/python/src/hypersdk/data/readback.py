"""read_back(): a finished image, read again through its format's reader, digested in one pass.

Three digests run side by side: of the file's bytes on a thread of its own, the tree of the virtual content
in the reading threads, the plain one of the virtual content in order on the calling thread. SHA-256 leaves
the GIL, so two cores are used.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.data.digest import ContentDigest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.readahead import read_ahead
from hypersdk.data.source import BlockSource
from hypersdk.data.zeros import is_zero
from hypersdk.errors import Cancelled, DataLoss

if TYPE_CHECKING:
    from hypersdk.data.extent import Extent
    from hypersdk.plugin.image_format import ImageFormat

_FILE_PIECE = 1 << 20
_ZEROS = bytes(1 << 20)
_CHECK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SiblingFacts:
    """A further file of the image, by its final name. Sizes in bytes, digest as hexadecimal."""

    name: str
    file_bytes: int
    allocated_bytes: int
    file_sha256: str


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Digests as hexadecimal. `virtual_size` as the image's own reader says, bytes. `siblings`: the further files, in
    the order in which they were made."""

    file_sha256: str
    sha256: str
    tree_sha256: str
    virtual_size: int
    siblings: tuple[SiblingFacts, ...] = ()


def read_back(
    path: Path,
    image_format: ImageFormat,
    content_bytes: int,
    *,
    threads: int = 0,
    aliases: Mapping[str, str] | None = None,
    check: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReadBack:
    """Read the image at `path`, whose first `content_bytes` are digested and whose rest must be zeros.
    `aliases`: final name → present name of its further files. `check` is called often and may raise or block;
    `progress(offset, bytes read)`. Raises DataLoss
    (VERIFY_MISMATCH) for a wrong size and what the reader raises."""
    stop = threading.Event()
    image = ImageFile.open(path, follow=False)
    image.aliases = aliases or {}
    with (
        image_format.open(image) as source,
        ThreadPoolExecutor(1, thread_name_prefix="file-digest") as pool,
    ):
        whole_file = pool.submit(file_sha256, path, stop)
        others = [
            pool.submit(_sibling_facts, name, path.with_name(hidden), stop) for name, hidden in image.aliases.items()
        ]
        try:
            _check_size(source, content_bytes, path)
            digest = ContentDigest(content_bytes)
            plain = _content(_Tapped(source, digest), digest, content_bytes, threads, check, progress)
            siblings = tuple(other.result() for other in others)
            return ReadBack(whole_file.result(), plain, digest.hexdigest(), source.size, siblings)
        finally:
            stop.set()


def file_sha256(path: Path, stop: threading.Event | None = None) -> str:
    """SHA-256 of a file's bytes. Raises Cancelled once `stop` is set, and OSError."""
    sha = hashlib.sha256()
    buffer = memoryview(bytearray(_FILE_PIECE))
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while count := os.readv(fd, [buffer]):
            if stop is not None and stop.is_set():
                raise Cancelled("the digest of the file is no longer wanted")
            sha.update(buffer[:count])
    finally:
        os.close(fd)
    return sha.hexdigest()


def _sibling_facts(name: str, path: Path, stop: threading.Event) -> SiblingFacts:
    status = path.stat()
    return SiblingFacts(name, status.st_size, status.st_blocks * 512, file_sha256(path, stop))


def _content(
    source: BlockSource,
    digest: ContentDigest,
    end: int,
    threads: int,
    check: Callable[[], None] | None,
    progress: Callable[[int, int], None] | None,
) -> str:
    sha = hashlib.sha256()
    read = 0
    for offset, length, data in read_ahead(source, 0, end, threads=threads, check=check):
        if data is not None:
            sha.update(data)
            read += length
        else:
            digest.zero(offset, length)
            _hash_zeros(sha, length, check)
        if progress is not None:
            progress(offset + length, read)
    return sha.hexdigest()


def _hash_zeros(sha: Any, length: int, check: Callable[[], None] | None) -> None:
    """A run of zeros may be terabytes long, at about 1.5 GB/s, so `check` is called in between."""
    for at in range(0, length, len(_ZEROS)):
        if check is not None and at % _CHECK_BYTES == 0:
            check()
        sha.update(_ZEROS if length - at >= len(_ZEROS) else _ZEROS[: length - at])


def _check_size(source: BlockSource, content_bytes: int, path: Path) -> None:
    """A format may round the size up to its unit of account; what it added must read as zeros."""
    extra = source.size - content_bytes
    if 0 <= extra < 1 << 20:
        rest = bytearray(extra)
        source.readinto(content_bytes, memoryview(rest))
        if is_zero(rest, 0, extra):
            return
    raise DataLoss(
        f"{path.name} reads back with {source.size} bytes, but {content_bytes} were copied; nothing was published",
        reason="VERIFY_MISMATCH",
    )


class _Tapped(BlockSource):
    """`inner`; whatever is read goes to the digest too, on the thread that read it."""

    def __init__(self, inner: BlockSource, digest: ContentDigest) -> None:
        self._inner = inner
        self._digest = digest

    @property
    def size(self) -> int:
        return self._inner.size

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        return self._inner.extents(offset, length)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._inner.readinto(offset, buffer)
        self._digest.update(offset, buffer)
