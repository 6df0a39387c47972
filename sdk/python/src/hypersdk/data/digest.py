"""Digests of what a virtual disk holds, as opposed to how an image file stores it.

    ContentDigest   a tree of SHA-256 over 4 MiB chunks: made in parallel, in any order, resumable, free for zeros
    plain_sha256    SHA-256 of the raw content, what `sha256sum` says of the raw image: sequential by nature

Not a defence against somebody who can choose both image and digest; it detects damage and mix-ups.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hypersdk.data.digest_state import Run, decode, encode
from hypersdk.data.sink import Buffer
from hypersdk.errors import FailedPrecondition, InvalidArgument, OutOfRange

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource

CHUNK_BYTES = 4 << 20
"""Bytes of virtual content under one leaf of the tree; part of the digest's definition."""

_ZEROS = bytes(1 << 20)
_DIGEST_BYTES = 32


class ContentDigest:
    """SHA-256 over the concatenated SHA-256 of each 4 MiB chunk of a disk of `size` bytes (the last one
    shorter).

    Its life: created for a size (or from the `state` of an earlier one), told of every byte once by `update`
    and `zero`, from any thread and in any order (chunks that are finished may be told again), then
    `hexdigest`. A chunk is hashed as its parts arrive in order; a part that arrives early is copied and
    waits, so memory is bounded by the chunks that are open at a time.
    """

    def __init__(self, size: int, state: bytes | None = None) -> None:
        if size < 0:
            raise InvalidArgument(f"a disk of {size} bytes has no digest", reason="SIZE_INVALID")
        self.size = size
        self._lock = threading.Lock()
        self._leaves: dict[int, bytes] = {}
        self._zero_chunks: list[Run] = []
        self._open: dict[int, _Chunk] = {}
        self._chunks = -(-size // CHUNK_BYTES)
        if state is not None:
            self._leaves, self._zero_chunks = decode(state, size, self._chunks)

    def update(self, offset: int, data: Buffer) -> None:
        """`data` lies at `offset`, bytes. May be of any length. Raises OutOfRange past the end."""
        view = memoryview(data).cast("B") if not isinstance(data, memoryview) else data
        self._check(offset, len(view))
        done = 0
        while done < len(view):
            index, within = divmod(offset + done, CHUNK_BYTES)
            count = min(len(view) - done, CHUNK_BYTES - within)
            self._part(index, within, count, view[done : done + count])
            done += count

    def zero(self, offset: int, length: int) -> None:
        """[offset, offset+length) reads as zeros. Whole chunks of it cost nothing."""
        self._check(offset, length)
        end = offset + length
        while offset < end:
            index, within = divmod(offset, CHUNK_BYTES)
            whole = self._whole_chunks(offset, end)
            if whole:
                with self._lock:
                    self._zero_chunks.append(Run(index, whole))
                    if len(self._zero_chunks) > 1024:
                        self._zero_chunks = _merged(self._zero_chunks)
                offset = min(end, offset + whole * CHUNK_BYTES)
                continue
            count = min(end - offset, CHUNK_BYTES - within)
            self._part(index, within, count, None)
            offset += count

    def missing(self, end: int) -> Iterator[tuple[int, int]]:
        """(offset, length) of what [0, end) holds of chunks not yet finished, in order: what a resumed copy
        must read again for the digest, though the sink has it. At most the open chunks of the earlier
        attempt."""
        with self._lock:
            known = _merged([*self._zero_chunks, *(Run(i, 1) for i in self._leaves)])
        at = 0
        for run in [*known, Run(self._chunks, 1)]:
            low, high = at * CHUNK_BYTES, min(run.first * CHUNK_BYTES, end)
            if low < high:
                yield low, high - low
            at = run.first + run.chunks

    def state(self) -> bytes:
        """The finished chunks, for a checkpoint: 33 bytes for each with data, a few for each run of zeros.
        What was told of unfinished chunks is not in it; `missing` of the digest made from it says what to
        tell again."""
        with self._lock:
            return encode(dict(self._leaves), _merged(self._zero_chunks), self.size)

    def hexdigest(self) -> str:
        """64 hexadecimal digits. Raises FailedPrecondition (DIGEST_INCOMPLETE) while bytes are missing."""
        import hashlib

        gap = next(self.missing(self.size), None)
        if gap is not None:
            raise FailedPrecondition(
                f"the digest was not told of {gap[1]} bytes at offset {gap[0]}; feed it the whole disk first",
                reason="DIGEST_INCOMPLETE",
            )
        root = hashlib.sha256()
        zero_leaf = hashlib.sha256(bytes(CHUNK_BYTES)).digest()
        block = zero_leaf * 4096
        at = 0
        with self._lock:
            for index in [*sorted(self._leaves), self._chunks]:
                blocks, rest = divmod(self._zero_leaves_between(at, index), 4096)
                for _ in range(blocks):
                    root.update(block)
                root.update(block[: rest * _DIGEST_BYTES])
                if index < self._chunks:
                    root.update(self._leaves[index])
                elif at < self._chunks and self.size % CHUNK_BYTES:
                    root.update(hashlib.sha256(bytes(self.size % CHUNK_BYTES)).digest())
                at = index + 1
        return root.hexdigest()

    def _zero_leaves_between(self, first: int, last: int) -> int:
        """Full-sized zero chunks in [first, last): a shorter one at the disk's end has a leaf of its own."""
        short_end = last == self._chunks and first < last and self.size % CHUNK_BYTES != 0
        return last - first - (1 if short_end else 0)

    def _whole_chunks(self, offset: int, end: int) -> int:
        if offset % CHUNK_BYTES:
            return 0
        return -(-(end - offset) // CHUNK_BYTES) if end == self.size else (end - offset) // CHUNK_BYTES

    def _chunk_bytes(self, index: int) -> int:
        return min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)

    def _part(self, index: int, within: int, length: int, data: memoryview | None) -> None:
        """One part of one chunk. Whoever brings the part that is next in order hashes it and every part that
        waits behind it; the lock is held only to take parts, so hashing runs outside it and outside the
        GIL."""
        with self._lock:
            if index in self._leaves:
                return
            chunk = self._open.setdefault(index, _Chunk())
            if chunk.busy or within != chunk.hashed:
                held = None if data is None else bytes(data)
                chunk.waiting[within] = (length, held)
                return
            chunk.busy = True
        part: tuple[int, Buffer | None] | None = (length, data)
        while part is not None:
            chunk.hash(*part)
            with self._lock:
                part = chunk.waiting.pop(chunk.hashed, None)
                if part is None:
                    chunk.busy = False
                    if chunk.hashed == self._chunk_bytes(index):
                        self._leaves[index] = chunk.digest()
                        del self._open[index]

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfRange(
                f"[{offset}, {offset + length}) is not inside a disk of {self.size} bytes", reason="OFFSET_PAST_END"
            )


class _Chunk:
    """A chunk whose leaf is not finished: what is hashed, and parts that came too early. Guarded by the
    digest's lock, except `hash`, which only the one who set `busy` calls."""

    __slots__ = ("_sha", "busy", "hashed", "waiting")

    def __init__(self) -> None:
        import hashlib

        self._sha = hashlib.sha256()
        self.hashed = 0
        self.busy = False
        self.waiting: dict[int, tuple[int, bytes | None]] = {}

    def hash(self, length: int, data: Buffer | None) -> None:
        if data is not None:
            self._sha.update(data)
        else:
            for at in range(0, length, len(_ZEROS)):
                self._sha.update(_ZEROS if length - at >= len(_ZEROS) else _ZEROS[: length - at])
        self.hashed += length

    def digest(self) -> bytes:
        return self._sha.digest()


def _merged(found: list[Run]) -> list[Run]:
    out: list[Run] = []
    for run in sorted(found):
        if out and run.first <= out[-1].first + out[-1].chunks:
            last = out.pop()
            run = Run(last.first, max(last.chunks, run.first + run.chunks - last.first))
        out.append(run)
    return out


def plain_sha256(
    source: BlockSource,
    check: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """SHA-256 of the raw content, 64 hexadecimal digits. Zeros have to be hashed too, at about 1.5 GB/s: the
    cost grows with the virtual size, unlike ContentDigest's. `progress(done, total)` is called about every
    64 MiB."""
    import hashlib

    from hypersdk.data.readahead import read_ahead

    sha = hashlib.sha256()
    told = 0
    for offset, length, data in read_ahead(source, check=check):
        if data is not None:
            sha.update(data)
        else:
            for at in range(0, length, len(_ZEROS)):
                if check is not None and at % (64 << 20) == 0:
                    check()
                sha.update(_ZEROS if length - at >= len(_ZEROS) else _ZEROS[: length - at])
        if progress is not None and offset + length - told >= 64 << 20:
            told = offset + length
            progress(told, source.size)
    if progress is not None:
        progress(source.size, source.size)
    return sha.hexdigest()
