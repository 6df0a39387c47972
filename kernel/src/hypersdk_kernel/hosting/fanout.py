"""Fan-out: one list from many sources (AIP-159), merged in order of source, the silent ones named (AIP-217).

Sources are asked ahead, a bounded number at once, and read in order, so that pages are the same however fast who
answers. A source has a share of the time that is left, so that one that hangs costs its own items and not the whole
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from hypersdk.errors import DeadlineExceeded, HyperError, InvalidArgument

from hypersdk_kernel.hosting.pagetoken import Cursor

CONCURRENCY = 8
TIME_SHARE = 0.75
"""Of the time left, what each round of questions may take; the rest is for the rounds after it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SourcePage:
    """What one source answered. `token`: by which this page is had again; that of the question unless another is
    given."""

    items: Sequence[Any]
    next_token: str
    token: str | None = None


@dataclass(slots=True)
class MergedPage:
    """`next` is None on the last page."""

    items: list[Any] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    next: Cursor | None = None


Ask = Callable[[str, str, int, float], Awaitable[SourcePage]]
"""(source, its page token, page size, seconds) → its page."""


async def merge(
    sources: Sequence[str], cursor: Cursor | None, page_size: int, timeout_s: float, ask: Ask
) -> MergedPage:
    """At most `page_size` items, from `cursor` on. A source that fails is named in `unreachable` and passed over,
    except for InvalidArgument, which is the request's fault and is raised. Raises DeadlineExceeded when sources
    answer with nothing but further tokens until the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    page = MergedPage()
    waiting = sorted(s for s in sources if cursor is None or s >= cursor.source)
    if cursor is None or cursor.source not in waiting:  # its source is gone: go on with the one after it
        cursor = None
    while waiting:
        room = page_size - len(page.items)
        if room == 0:
            page.next = cursor or Cursor(waiting[0])
            return page
        left_s = deadline - loop.time()
        if left_s <= 0:
            raise DeadlineExceeded(f"{waiting[0]} did not come to an end in time; list it by itself")
        cursors = [cursor or Cursor(waiting[0], page_size=room)]
        cursors += [Cursor(source, page_size=room) for source in waiting[1:CONCURRENCY]]
        cursor = await _round(cursors, page, page_size, left_s * TIME_SHARE, ask)
        done = len(cursors) if cursor is None else [c.source for c in cursors].index(cursor.source)
        waiting = waiting[done:]
    return page


async def _round(
    cursors: Sequence[Cursor], page: MergedPage, page_size: int, timeout_s: float, ask: Ask
) -> Cursor | None:
    """Ask at all `cursors` at once and take what fits. Where to go on in the middle of a source, or None."""
    questions = [ask(c.source, c.token, c.page_size or page_size, timeout_s) for c in cursors]
    answers = await asyncio.gather(*questions, return_exceptions=True)
    for cursor, answer in zip(cursors, answers, strict=True):
        if len(page.items) == page_size:
            return Cursor(cursor.source)  # what it answered is dropped: asked again with the next page's size
        if isinstance(answer, BaseException):
            if not isinstance(answer, HyperError) or isinstance(answer, InvalidArgument):
                raise answer
            log.warning("source_unreachable", source=cursor.source, reason=answer.reason, error=answer.message)
            page.unreachable.append(cursor.source)
            continue
        fresh = answer.items[cursor.skip :]
        room = page_size - len(page.items)
        page.items.extend(fresh[:room])
        if len(fresh) > room:
            again = cursor.token if answer.token is None else answer.token
            return Cursor(cursor.source, again, cursor.skip + room, cursor.page_size)
        if answer.next_token:
            return Cursor(cursor.source, answer.next_token, 0, page_size)
    return None
