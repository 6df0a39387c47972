# Generated from aio/pager.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""Pager: a list that is fetched page by page while it is iterated."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Generic, Protocol, TypeVar


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


Page = TypeVar("Page", bound=_Page)
Item = TypeVar("Item")


class Pager(Generic[Page, Item]):
    """Iterate it for the items of all pages, or `pages()` for the responses. Each iteration asks afresh.

    fetch        the response for a page token
    items        the items of a response
    unreachable  after an iteration: names of the connections or plugins that did not answer, of all its pages
    """

    def __init__(
        self, fetch: Callable[[str], Page], items: Callable[[Page], Iterable[Item]]
    ) -> None:
        self._fetch = fetch
        self._items = items
        self.unreachable: list[str] = []

    def pages(self) -> Generator[Page, None, None]:
        """Response by response."""
        self.unreachable = []
        token = ""
        while True:
            page = self._fetch(token)
            self.unreachable += getattr(page, "unreachable", ())
            yield page
            token = page.next_page_token
            if not token:
                return

    def __iter__(self) -> Generator[Item, None, None]:
        for page in self.pages():
            yield from self._items(page)
