"""The sync client is the async one's twin."""

from pathlib import Path

import hypersdk.client
from hypersdk.client.generate_sync import stale, sync_text

FOLDER = Path(hypersdk.client.__file__).parent


def test_the_sync_client_is_fresh():
    assert sorted(path.name for path in stale(FOLDER)) == []


def test_no_sync_file_lacks_its_source():
    assert {p.name for p in (FOLDER / "blocking").glob("*.py")} == {p.name for p in (FOLDER / "aio").glob("*.py")}


def test_async_words_are_taken_out():
    text = "async def f(x: AsyncCaller) -> AsyncGenerator[int, None]:\n    async for y in x:\n        yield y\n"
    expected = "def f(x: Caller) -> Generator[int, None, None]:\n    yield from x\n"
    assert sync_text(text, "aio/f.py").partition("\n")[2] == expected
