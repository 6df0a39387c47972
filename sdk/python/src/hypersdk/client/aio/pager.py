"""Pager: a list that is fetched page by page while it is iterated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeVar


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


Page = TypeVar("Page", bound=_Page)
Item = TypeVar("Item")


class AsyncPager(Generic[Page, Item]):
    """Iterate it for the items of all pages, or `pages()` for the responses. Each iteration asks afresh.

    fetch        the response for a page token
    items        the items of a response
    unreachable  after an iteration: names of the connections or plugins that did not answer, of all its pages
    """

    def __init__(
        self, fetch: Callable[[str], Awaitable[Page]], items: Callable[[Page], Iterable[Item]]
    ) -> None:
        self._fetch = fetch
        self._items = items
        self.unreachable: list[str] = []

    async def pages(self) -> AsyncGenerator[Page, None]:
        """Response by response."""
        self.unreachable = []
        token = ""
        while True:
            page = await self._fetch(token)
            self.unreachable += getattr(page, "unreachable", ())
            yield page
            token = page.next_page_token
            if not token:
                return

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        async for page in self.pages():
            for item in self._items(page):
                yield item
