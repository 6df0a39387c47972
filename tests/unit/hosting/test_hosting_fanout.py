"""One list from many sources."""

import asyncio

import pytest
from hypersdk.errors import DeadlineExceeded, InvalidArgument, Unavailable
from hypersdk_kernel.hosting import fanout
from hypersdk_kernel.hosting.fanout import SourcePage, merge
from hypothesis import given, settings
from hypothesis import strategies as st


class Sources:
    """Lists in memory, whose own pages are never longer than `page`. Sources in `dead` are unreachable."""

    def __init__(self, lists, page=1000, dead=()):
        self.lists, self.page, self.dead = lists, page, set(dead)
        self.asked = []
        self.open = self.most_open = 0

    async def ask(self, source, token, page_size, timeout_s):
        self.asked.append(source)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        if source in self.dead:
            raise Unavailable("away")
        start, end = int(token or 0), int(token or 0) + min(page_size, self.page)
        rows = self.lists[source]
        return SourcePage(rows[start:end], str(end) if end < len(rows) else "")

    async def walk(self, page_size):
        items, unreachable, cursor, pages = [], [], None, 0
        while True:
            page = await merge(list(self.lists), cursor, page_size, 10, self.ask)
            assert len(page.items) <= page_size
            items += page.items
            unreachable += page.unreachable
            pages += 1
            cursor = page.next
            if cursor is None:
                return items, unreachable, pages


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 12), max_size=20),
    st.integers(1, 15), st.integers(1, 6), st.sets(st.text("abc", min_size=1, max_size=3), max_size=4),
)  # fmt: skip
def test_walking_the_pages_gives_every_item_once_in_order_and_names_the_dead_once(counts, page_size, own_page, dead):
    lists = {name: [f"{name}{i}" for i in range(count)] for name, count in counts.items()}
    sources = Sources(lists, own_page, dead)
    items, unreachable, _ = asyncio.run(sources.walk(page_size))
    assert items == [row for name in sorted(lists) if name not in dead for row in lists[name]]
    assert unreachable == sorted(dead & lists.keys())


async def test_sources_are_asked_at_once_but_not_all_of_them():
    sources = Sources({f"s{i:02}": ["x"] for i in range(30)})
    await sources.walk(1000)
    assert sources.most_open == fanout.CONCURRENCY


async def test_no_source_is_asked_when_there_is_none():
    assert await Sources({}).walk(5) == ([], [], 1)


async def test_a_source_that_went_away_between_pages_is_passed_over():
    sources = Sources({"a": ["a0", "a1"], "b": ["b0"]})
    first = await merge(["a", "b"], None, 1, 10, sources.ask)
    assert (first.items, first.next.source) == (["a0"], "a")
    second = await merge(["b"], first.next, 5, 10, sources.ask)
    assert (second.items, second.next) == (["b0"], None)


async def test_a_wrong_request_is_raised_and_not_blamed_on_the_sources():
    async def ask(source, token, page_size, timeout_s):
        raise InvalidArgument("bad prefix")

    with pytest.raises(InvalidArgument):
        await merge(["a", "b"], None, 5, 10, ask)


async def test_a_defect_of_ours_is_raised_and_not_blamed_on_the_sources():
    async def ask(source, token, page_size, timeout_s):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await merge(["a", "b"], None, 5, 10, ask)


async def test_each_round_leaves_time_for_the_next():
    given_s = []

    async def ask(source, token, page_size, timeout_s):
        given_s.append(timeout_s)
        raise Unavailable("away")

    await merge([f"s{i:02}" for i in range(9)], None, 5, 10, ask)
    assert all(timeout_s <= 7.5 for timeout_s in given_s)


async def test_a_source_that_pages_for_ever_without_items_is_stopped_by_the_deadline():
    async def ask(source, token, page_size, timeout_s):
        await asyncio.sleep(0.001)
        return SourcePage([], "more")

    with pytest.raises(DeadlineExceeded, match="list it by itself"):
        await merge(["a"], None, 5, 0.05, ask)
