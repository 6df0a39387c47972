"""Timetables: `table` on SQLite, `each` on every database."""

import pytest
from support.timetables import timetable


@pytest.fixture
async def table(tmp_path):
    async with timetable(tmp_path / "state.db") as made:
        yield made


@pytest.fixture
async def each(database):
    """The same on each database."""
    async with timetable(database.backend()) as made:
        yield made
