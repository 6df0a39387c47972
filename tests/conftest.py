"""Fixtures that every test folder may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon of this test's own."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder)
    try:
        yield made.start()
    finally:
        made.close()
