"""What a case yields, and how cases are found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    case   `<group>-…`                     value  what is judged: a ratio where there is a peer, else `ours`
    unit   of value                        ours, peer  in the unit of the measurement (seconds, calls/s, MiB)
    must   bound of value, or None         better  is a "less" or a "more" of value better?
    """

    case: str
    value: float
    unit: str
    ours: float | None = None
    peer: float | None = None
    peer_name: str | None = None
    must: float | None = None
    better: Literal["less", "more"] = "less"

    def met(self) -> bool | None:
        """None where nothing is demanded."""
        if self.must is None:
            return None
        return self.value <= self.must if self.better == "less" else self.value >= self.must

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Case = Callable[[], Iterable[Row]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Register a function under a case's name. It may yield several rows, whose names begin with it."""

    def add(function: Case) -> Case:
        assert name not in CASES, name
        CASES[name] = function
        return function

    return add


def ratio(
    name: str, ours: float, peer: float, peer_name: str, must: float | None = None, *, better: str = "less"
) -> Row:
    """A row of ours / peer's."""
    kind: Literal["less", "more"] = "more" if better == "more" else "less"
    return Row(name, ours / peer, "ratio", ours, peer, peer_name, must, kind)


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def side_by_side(
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    rounds: int = 5,
    between: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """Median seconds of both, taken in turns so that a slow minute of the machine hits both alike."""
    mine, theirs = [], []
    for _ in range(rounds):
        between()
        mine.append(seconds(ours))
        between()
        theirs.append(seconds(peer))
    return statistics.median(mine), statistics.median(theirs)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0–1) of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Lines for a terminal."""
    yield f"{'case':52} {'value':>10} {'unit':10} {'ours':>12} {'peer':>12} {'must':>8}  "
    for row in rows:
        met = {None: "", True: "met", False: "MISSED"}[row.met()]
        bound = "" if row.must is None else f"{'≤' if row.better == 'less' else '≥'} {row.must:g}"
        peer = "" if row.peer is None else f"{row.peer:12.4g} {row.peer_name}"
        ours = "" if row.ours is None else f"{row.ours:.4g}"
        yield f"{row.case:52} {row.value:10.4g} {row.unit:10} {ours:>12} {peer:>12} {bound:>8}  {met}"
