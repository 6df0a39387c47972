"""carbon/static: an intensity for each region and hour of the day, the same every day.

The table is a sample (see its first line): it shows how a source works and lets schedules be tried without an account
anywhere. It says nothing of any real grid; a source of live values is another plugin of the same contract.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

from hypersdk.plugin.carbon import CarbonSource, Intensity, unknown_region

_HOUR_S = 3600
_HOURS = 24


def read_table(text: str) -> dict[str, tuple[float, ...]]:
    """region → 24 values. Lines that begin with `#` are remarks. Raises ValueError naming the line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    table: dict[str, tuple[float, ...]] = {}
    for row in list(csv.reader(lines))[1:]:
        region, values = row[0], tuple(float(value) for value in row[1:])
        if len(values) != _HOURS or region in table or not all(math.isfinite(v) and v >= 0 for v in values):
            raise ValueError(f"region {region}: needs {_HOURS} values of 0 or more, once")
        table[region] = values
    return table


class StaticCarbon(CarbonSource):
    """The table of this package. Keeps nothing else; safe to ask from any thread."""

    def __init__(self, table: Mapping[str, Sequence[float]] | None = None) -> None:
        text = (files(__package__) / "table.csv").read_text("utf-8") if table is None else ""
        self._table = read_table(text) if table is None else table

    def regions(self) -> Sequence[str]:
        return sorted(self._table)

    def forecast(self, region: str, start_s: float, end_s: float) -> Sequence[Intensity]:
        values = self._table.get(region)
        if values is None:
            raise unknown_region(region, self.regions())
        first = math.floor(start_s / _HOUR_S)
        hours = range(first, max(math.ceil(end_s / _HOUR_S), first + 1))
        return [Intensity(h * _HOUR_S, (h + 1) * _HOUR_S, values[h % _HOURS]) for h in hours]
