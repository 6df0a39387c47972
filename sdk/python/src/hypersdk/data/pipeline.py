"""copy(): everything a source holds into a sink, in constant memory, whatever the disk's size.

One stream of pieces in ascending order. A piece that lies in a plain file goes to a sink that can take it by
copy_file_range, on the calling thread, and its bytes never enter this process; unless a trial shows that two
threads move them faster (hypersdk.data.offload). Every other piece is read by a worker thread, which also
feeds the digest, looks for zeros and does the sink's encoding; the calling thread writes the results in
order. Runs of zeros pass through as they are, however long, so the cost grows with the data.

With a digest, all data takes the second way: the bytes have to be read in any case, and then the digest is
of the very bytes that were written.

Not here: opening, naming, publishing, retrying (hypersdk.data.images, the tasks and the filters do that).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hypersdk.data import zeros
from hypersdk.data.copytypes import CopyHooks, CopyOptions, CopyProgress, CopyResult
from hypersdk.data.extent import Extent, ExtentKind, FileRange
from hypersdk.data.offload import Trial
from hypersdk.data.pieces import Piece, PieceKind, plan
from hypersdk.data.workers import BufferPool, in_order, usable_cores
from hypersdk.errors import FailedPrecondition, InvalidArgument, from_exception

if TYPE_CHECKING:
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource

_FILE_PIECES = 8
"""Pieces that one copy_file_range may span: the cost of a call in Python vanishes, `check` stays prompt."""
_FILE_PIECE_BYTES = 8 << 20
_PLAIN_PIECE_BYTES = 4 << 20
"""Of plain bytes that go through memory: fewer, larger writes (1 MiB: 5 % slower)."""
_MAX_SOURCE_UNIT = 8 << 20
_MAX_IN_FLIGHT_BYTES = 64 << 20
_PROGRESS_SECONDS = 0.1

__all__ = ["CopyHooks", "CopyOptions", "CopyProgress", "CopyResult", "copy"]

_DEFAULT_OPTIONS = CopyOptions()
_NO_HOOKS = CopyHooks()


def copy(
    source: BlockSource,
    sink: BlockSink,
    *,
    options: CopyOptions = _DEFAULT_OPTIONS,
    hooks: CopyHooks = _NO_HOOKS,
) -> CopyResult:
    """Copy all of `source` and call `sink.finish()`. Never calls `sink.abort()`: the caller owns failure.

    Raises what the source, the sink or a hook raises, as a HyperError where it was an OSError (a full disk
    is ResourceExhausted, DISK_FULL); no thread of the copy is left running. InvalidArgument when the sink is
    smaller than the source or `resume_offset` is not a multiple of its granularity."""
    return _Copy(source, sink, options, hooks).run()


class _Task(NamedTuple):
    """A piece, and where it lies in plain files if it is to be copied from there."""

    piece: Piece
    ranges: tuple[FileRange, ...] | None


class _Part(NamedTuple):
    """`length` bytes at `start` in a piece's buffer; `encoded` by the sink if it does that."""

    start: int
    length: int
    holds_data: bool
    encoded: object = None


class _Loaded(NamedTuple):
    """A piece in memory, ready to be written; no buffer for a run of zeros."""

    buffer: bytearray | None
    parts: tuple[_Part, ...] = ()


class _Copy:
    """One call of `copy`: made, run once, thrown away."""

    def __init__(self, source: BlockSource, sink: BlockSink, options: CopyOptions, hooks: CopyHooks) -> None:
        self._source = source
        self._sink = sink
        self._options = options
        self._hooks = hooks
        self._unit = sink.granularity
        self._by_file = not sink.encodes and hooks.digest is None
        """May a piece be handed to the sink as ranges of files?"""
        plain = self._by_file and _lies_in_files(source, options.resume_offset)
        cores = usable_cores()
        self._piece = _piece_bytes(source, sink, options, hooks, _PLAIN_PIECE_BYTES if plain and cores > 1 else 0)
        self._threads = options.threads or (max(1, cores - 1) if plain else cores)
        self._trial = Trial() if plain and cores > 1 else None
        limit = options.read_ahead or 2 * self._threads + 2
        self._limit = max(2, min(limit, _MAX_IN_FLIGHT_BYTES // self._piece))
        self._pool = BufferPool(self._piece)
        self._plan_by_file = self._by_file
        """Are further pieces planned so? False once a trial was lost; those planned already still go."""
        self._read = self._written = 0
        self._started = self._progress_at = self._checkpoint_at = time.monotonic()
        self._checkpoint_moved = 0
        self._check_arguments()

    def run(self) -> CopyResult:
        self._feed_digest_again()
        stream = in_order(
            self._tasks(), self._load, threads=self._threads, limit=self._limit, inline=self._needs_no_worker
        )
        try:
            for task, loaded in stream:
                if self._hooks.check is not None:
                    self._hooks.check()
                before = self._read
                self._store(task, loaded)
                self._after(task.piece, self._read - before)
        finally:
            stream.close()  # ends the threads now, though a traceback may keep the iterator alive
        try:
            facts = self._sink.finish()
        except OSError as exc:
            raise from_exception(exc, doing="finishing the target") from exc
        self._tell(self._source.size)
        return CopyResult(self._read, self._written, time.monotonic() - self._started, facts)

    def _tasks(self) -> Iterator[_Task]:
        """Pieces for the operating system are larger than those for memory; a larger one that cannot be
        taken from a file is cut again."""
        start, size = self._options.resume_offset, self._source.size
        large = self._piece * (_FILE_PIECES if self._by_file and self._hooks.throttle is None else 1)
        large = min(large, max(self._piece, _FILE_PIECE_BYTES // self._piece * self._piece))
        extents = self._source.extents(start, size - start) if start < size else iter(())
        for piece in plan(extents, size, unit=self._unit, piece_bytes=large):
            if piece.kind == PieceKind.ZERO:
                yield _Task(piece, None)
                continue
            ranges = self._file_ranges(piece)
            if ranges is not None:
                yield _Task(piece, ranges)
                continue
            for small in _cut(piece, self._piece):
                yield _Task(small, None)

    def _file_ranges(self, piece: Piece) -> tuple[FileRange, ...] | None:
        """Where the piece lies in files, if each range holds whole units of the sink."""
        if not self._plan_by_file or piece.kind != PieceKind.DATA or self._padded(piece) != piece.length:
            return None
        found = self._source.file_ranges(piece.offset, piece.length)
        if found is None:
            return None
        ranges = tuple(found)
        if any(r.length % self._unit for r in ranges[:-1]):
            return None
        return ranges

    def _needs_no_worker(self, task: _Task) -> bool:
        return task.ranges is not None or (task.piece.kind == PieceKind.ZERO and self._hooks.digest is None)

    def _load(self, task: _Task) -> _Loaded:
        """In a worker: read, digest, find zeros, encode."""
        offset, length, kind = task.piece
        digest = self._hooks.digest
        if kind == PieceKind.ZERO:
            if digest is not None:
                digest.zero(offset, length)
            return _Loaded(None)
        buffer = self._pool.take()
        view = memoryview(buffer)
        self._readinto(offset, view[:length])
        if digest is not None:
            digest.update(offset, view[:length])
        padded = self._padded(task.piece)
        view[length:padded] = bytes(padded - length)
        if self._options.detect_zeros:
            unit = max(self._unit, zeros.ZERO_UNIT)
            parts = [_Part(*run) for run in zeros.runs(buffer, padded, unit)]
        else:
            parts = [_Part(0, padded, holds_data=True)]
        if self._sink.encodes:
            parts = [
                p._replace(encoded=self._sink.encode(offset + p.start, view[p.start : p.start + p.length]))
                if p.holds_data else p
                for p in parts
            ]  # fmt: skip
        return _Loaded(buffer, tuple(parts))

    def _readinto(self, offset: int, view: memoryview) -> None:
        try:
            self._source.readinto(offset, view)
        except OSError as exc:
            raise from_exception(exc, doing=f"reading the source at offset {offset}") from exc

    def _store(self, task: _Task, loaded: _Loaded | None) -> None:
        """On the calling thread: put one piece into the sink."""
        piece = task.piece
        try:
            if piece.kind == PieceKind.ZERO:
                self._sink.zero(piece.offset, self._padded(piece))
            elif task.ranges is None or not self._store_ranges_measured(piece, task.ranges):
                self._store_loaded(piece, loaded)
        except OSError as exc:
            raise from_exception(exc, doing=f"writing the target at offset {piece.offset}") from exc

    def _store_ranges_measured(self, piece: Piece, ranges: tuple[FileRange, ...]) -> bool:
        trial = self._trial
        if trial is None:
            return self._store_ranges(piece, ranges)
        before = self._written
        trial.begin()
        taken = self._store_ranges(piece, ranges)
        trial.end(self._written - before)
        if trial.over:
            self._plan_by_file = not trial.two_threads_are_better
            self._trial = None
        return taken

    def _store_ranges(self, piece: Piece, ranges: tuple[FileRange, ...]) -> bool:
        """False when the sink refuses; it is not asked again."""
        offset = piece.offset
        unit = max(self._unit, zeros.ZERO_UNIT)
        for fd, file_offset, length in ranges:
            runs = (
                zeros.file_runs(fd, file_offset, length, unit)
                if self._options.detect_zeros else iter([(0, length, True)])
            )  # fmt: skip
            for start, count, holds_data in runs:
                if not holds_data:
                    self._sink.zero(offset + start, count)
                elif self._by_file and self._sink.write_file_range(
                    offset + start, FileRange(fd, file_offset + start, count)
                ):
                    self._written += count
                else:
                    self._by_file = self._plan_by_file = False
                    return False
            offset += length
        self._read += piece.length
        return True

    def _store_loaded(self, piece: Piece, loaded: _Loaded | None) -> None:
        if loaded is None:  # planned for a file range that the sink then refused
            for small in _cut(piece, self._piece):
                self._store_loaded(small, self._load(_Task(small, None)))
            return
        buffer = loaded.buffer
        assert buffer is not None
        view = memoryview(buffer)
        for start, length, holds_data, encoded in loaded.parts:
            if not holds_data:
                self._sink.zero(piece.offset + start, length)
                continue
            if self._sink.encodes:
                self._sink.write_encoded(piece.offset + start, encoded)
            else:
                self._sink.write(piece.offset + start, view[start : start + length])
            self._written += length
        self._read += piece.length
        self._pool.give(buffer)

    def _after(self, piece: Piece, moved: int) -> None:
        self._checkpoint_moved += moved
        if self._hooks.throttle is not None and moved:
            self._hooks.throttle(moved)
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_SECONDS:
            self._progress_at = now
            self._tell(piece.end)
        due = self._options.checkpoint_bytes
        if (
            self._hooks.checkpoint is not None
            and 0 < due <= self._checkpoint_moved
            and now - self._checkpoint_at >= self._options.checkpoint_seconds
            and piece.end < self._source.size
        ):
            try:
                state = self._sink.checkpoint()
            except OSError as exc:
                raise from_exception(exc, doing=f"saving the target at offset {piece.end}") from exc
            if state is not None:
                self._hooks.checkpoint(piece.end, state)
            self._checkpoint_moved = 0
            self._checkpoint_at = time.monotonic()

    def _tell(self, offset: int) -> None:
        if self._hooks.progress is not None:
            self._hooks.progress(CopyProgress(offset, self._source.size, self._read, self._written))

    def _padded(self, piece: Piece) -> int:
        """The piece's length in the sink: where a disk ends in the middle of a unit and the sink's does not,
        zeros fill the unit."""
        end = min(self._sink.size, -(-piece.end // self._unit) * self._unit)
        return max(end, piece.end) - piece.offset

    def _feed_digest_again(self) -> None:
        digest = self._hooks.digest
        if digest is None or not self._options.resume_offset:
            return
        from hypersdk.data.readahead import read_ahead

        for low, length in digest.missing(self._options.resume_offset):
            for offset, count, data in read_ahead(
                self._source, low, low + length, threads=self._threads, check=self._hooks.check
            ):
                if data is None:
                    digest.zero(offset, count)
                else:
                    digest.update(offset, data)
                    self._read += count

    def _check_arguments(self) -> None:
        start, size = self._options.resume_offset, self._source.size
        if self._sink.size < size:
            raise InvalidArgument(
                f"the target has {self._sink.size} bytes, the source {size}; create the target at least as large",
                reason="TARGET_TOO_SMALL",
            )
        if start < 0 or start > size or (start % self._unit and start != size):
            raise InvalidArgument(
                f"cannot resume at offset {start}: it is not a multiple of {self._unit} inside {size} bytes",
                reason="RESUME_OFFSET_INVALID",
            )


def _lies_in_files(source: BlockSource, start: int) -> bool:
    """Is the first data of the source in a plain file? Then, as formats are, nearly all of it is."""
    if start >= source.size:
        return False
    first = next((e for e in source.extents(start, source.size - start) if e.kind == ExtentKind.DATA), None)
    return first is not None and source.file_ranges(first.offset, min(first.length, source.granularity)) is not None


def _piece_bytes(
    source: BlockSource, sink: BlockSink, options: CopyOptions, hooks: CopyHooks, at_least: int = 0
) -> int:
    """The piece size: a multiple of the sink's granularity always, of the source's unless that is huge, and
    of a digest's chunks, so that one worker hashes a whole chunk."""
    if sink.granularity < 1 or options.piece_bytes < 1:
        raise FailedPrecondition(
            f"granularity {sink.granularity} and piece size {options.piece_bytes} must be positive",
            reason="PIECE_SIZE_INVALID",
        )
    unit = max(sink.granularity, min(source.granularity, _MAX_SOURCE_UNIT))
    if hooks.digest is not None:
        from hypersdk.data.digest import CHUNK_BYTES

        unit = max(unit, CHUNK_BYTES)
    rounded = -(-max(options.piece_bytes, at_least) // unit) * unit
    return -(-rounded // sink.granularity) * sink.granularity


def _cut(piece: Piece, piece_bytes: int) -> Iterator[Piece]:
    extent = Extent(piece.offset, piece.length, ExtentKind.DATA)
    for small in plan([extent], piece.end, unit=1, piece_bytes=piece_bytes):
        yield Piece(small.offset, small.length, piece.kind)
