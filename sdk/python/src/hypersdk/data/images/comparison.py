"""compare(): do two virtual disks hold the same bytes?

Walks both disks' extents together. Where both are zero nothing is read; where one is, only the other is read
and tested for zeros; the rest is read from both in threads. Formats and allocation do not matter unless
`strict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hypersdk.data.copytypes import CopyHooks, CopyProgress
from hypersdk.data.extent import Extent, ExtentKind, coalesce
from hypersdk.data.workers import BufferPool, in_order, usable_cores
from hypersdk.data.zeros import is_zero

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource

_PIECE = 1 << 20
_NO_HOOKS = CopyHooks()


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two disks differ first.

    offset  bytes; where only the sizes or, with `strict`, the allocation differ, the place where that begins
    kind    "content", "size" or "allocation"
    """

    offset: int
    kind: str = "content"


class _Span(NamedTuple):
    offset: int
    length: int
    a_data: bool
    b_data: bool


def compare(
    a: BlockSource, b: BlockSource, *, strict: bool = False, hooks: CopyHooks = _NO_HOOKS, threads: int = 0
) -> Difference | None:
    """The first difference, or None. Sizes may differ if the longer disk's rest reads as zeros; with
    `strict` neither sizes nor allocation may differ. Uses `hooks.check`, `progress` and `throttle`. Raises
    what the sources raise."""
    if strict and a.size != b.size:
        return Difference(min(a.size, b.size), "size")
    threads = threads or usable_cores()
    pool = BufferPool(_PIECE)
    total = max(a.size, b.size)

    def first_difference(span: _Span) -> int:
        """Its offset in the span, or -1."""
        left, right = (pool.take() if holds else None for holds in (span.a_data, span.b_data))
        if left is not None:
            _read(a, span.offset, left, span.length)
        if right is not None:
            _read(b, span.offset, right, span.length)
        at = _first_difference(left, right, span.length)
        for buffer in (left, right):
            if buffer is not None:
                pool.give(buffer)
        return at

    read = 0
    stream = in_order(
        _cut(_paired(coalesce(_padded(a, total)), coalesce(_padded(b, total)))), first_difference,
        threads=threads, limit=2 * threads + 2,
        inline=lambda s: not (s.a_data or s.b_data) or (strict and s.a_data != s.b_data),
    )  # fmt: skip
    with closing(stream):
        for span, at in stream:
            if hooks.check is not None:
                hooks.check()
            if strict and span.a_data != span.b_data:
                return Difference(span.offset, "allocation")
            if at is None:
                continue
            if at >= 0:
                return Difference(span.offset + at)
            moved = span.length * (span.a_data + span.b_data)
            read += moved
            if hooks.throttle is not None:
                hooks.throttle(moved)
            if hooks.progress is not None:
                hooks.progress(CopyProgress(span.offset + span.length, total, read, 0))
    if hooks.progress is not None:
        hooks.progress(CopyProgress(total, total, read, 0))
    return None


def _read(source: BlockSource, offset: int, buffer: bytearray, length: int) -> None:
    source.readinto(offset, memoryview(buffer)[:length])


def _first_difference(left: bytearray | None, right: bytearray | None, length: int) -> int:
    if left is None or right is None:
        held = left if left is not None else right
        assert held is not None
        if is_zero(held, 0, length):
            return -1
        return _narrow(held, bytes(length), length)
    return _narrow(left, right, length)


def _narrow(left: bytearray, right: bytearray | bytes, length: int) -> int:
    """Where they differ first, or -1: halve the range by memcmp (startswith copies nothing) until one byte is left."""
    view = memoryview(right)
    if left.startswith(view[:length]):
        return -1
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        if left.startswith(view[low:middle], low):
            low = middle
        else:
            high = middle
    return low


def _padded(source: BlockSource, total: int) -> Iterator[Extent]:
    yield from source.extents()
    if source.size < total:
        yield Extent(source.size, total - source.size, ExtentKind.ZERO)


def _paired(a: Iterable[Extent], b: Iterable[Extent]) -> Iterator[_Span]:
    """Spans in which neither side changes its kind."""
    left, right = iter(a), iter(b)
    one, two = next(left, None), next(right, None)
    at = 0
    while one is not None and two is not None:
        end = min(one.end, two.end)
        yield _Span(at, end - at, one.kind == ExtentKind.DATA, two.kind == ExtentKind.DATA)
        at = end
        if one.end == end:
            one = next(left, None)
        if two.end == end:
            two = next(right, None)


def _cut(spans: Iterable[_Span]) -> Iterator[_Span]:
    """Spans to be read, cut at multiples of the piece size; the others are left whole."""
    for span in spans:
        if not (span.a_data or span.b_data):
            yield span
            continue
        at, end = span.offset, span.offset + span.length
        while at < end:
            stop = min(end, at - at % _PIECE + _PIECE)
            yield span._replace(offset=at, length=stop - at)
            at = stop
