"""Public holidays, from the `holidays` package, which is loaded when a window first asks (0.1 s)."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Any


def holiday(country: str, subdivision: str, day: dt.date) -> str:
    """The holiday's name, or ""."""
    return str(_calendar(country, subdivision).get(day) or "")


def known(country: str, subdivision: str = "") -> bool:
    """Whether there is a calendar for it."""
    try:
        _calendar(country, subdivision)
    except NotImplementedError:  # what the package raises for a place that it does not have
        return False
    return True


@lru_cache(maxsize=64)
def _calendar(country: str, subdivision: str) -> Any:
    import holidays

    return holidays.country_holidays(country, subdiv=subdivision or None)
