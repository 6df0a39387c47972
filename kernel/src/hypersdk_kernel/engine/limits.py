"""The book of limits: how many jobs run in each count, and how many started lately. Pure: the time is passed in."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hypersdk_kernel.model.limit import Facts, Limit

Count = tuple[str, str]
"""(limit id, value): one count of a limit."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing of a lane may start. `until`: when time alone ends it."""

    limit: str
    message: str
    until: float | None = None


class LimitBook:
    """What is running under every limit. `replace` takes new limits; what runs stays counted by its job's counts, which
    the queue makes anew (`counts_of`)."""

    def __init__(self, limits: Iterable[Limit] = ()) -> None:
        self.holds: Callable[[Limit], bool] = _always
        """Whether a limit holds now: one that belongs to a window does while that is open."""
        self._limits: dict[str, Limit] = {limit.id: limit for limit in limits}
        self._running: Counter[Count] = Counter()
        self._starts: dict[Count, deque[float]] = {}

    def limits(self) -> list[Limit]:
        return list(self._limits.values())

    def get(self, limit_id: str) -> Limit | None:
        return self._limits.get(limit_id)

    def replace(self, limits: Iterable[Limit]) -> None:
        self._limits = {limit.id: limit for limit in limits}
        self._starts = {key: starts for key, starts in self._starts.items() if key[0] in self._limits}

    def counts_of(self, facts: Facts) -> tuple[Count, ...]:
        """The counts that a job with `facts` is in."""
        return tuple(sorted({key for limit in self._limits.values() for key in limit.keys(facts)}))

    def running(self, count: Count) -> int:
        return self._running[count]

    def blocking(self, counts: tuple[Count, ...], now: float) -> Blocked | None:
        """The first limit that lets nothing with `counts` start at `now`."""
        for count in counts:
            limit = self._limits.get(count[0])
            if limit is None or not self.holds(limit):
                continue
            if limit.max_running and self._running[count] >= limit.max_running:
                return Blocked(limit.name, f"{_of(limit, count)} lets {limit.max_running} run at once, and as many do")
            if limit.max_starts:
                starts = self._lately(count, limit, now)
                if len(starts) >= limit.max_starts:
                    return Blocked(
                        limit.name,
                        f"{_of(limit, count)} lets {limit.max_starts} start in {limit.period_s:g} s, and as many did",
                        starts[len(starts) - limit.max_starts] + limit.period_s,
                    )
        return None

    def count(self, counts: tuple[Count, ...], by: int) -> None:
        """`by` more jobs run in each of `counts`."""
        for count in counts:
            self._running[count] += by
            if self._running[count] <= 0:
                del self._running[count]

    def note_start(self, counts: tuple[Count, ...], now: float) -> None:
        """A job started: rates count it."""
        for count in counts:
            limit = self._limits.get(count[0])
            if limit is not None and limit.max_starts:
                self._lately(count, limit, now).append(now)

    def set_back(self, now: float, by: float) -> None:
        """The clock that `now` is read from was set back by so many seconds: no start lies in the future."""
        for count, starts in self._starts.items():
            self._starts[count] = deque(start - by if start > now else start for start in starts)

    def _lately(self, count: Count, limit: Limit, now: float) -> deque[float]:
        starts = self._starts.setdefault(count, deque())
        while starts and starts[0] <= now - limit.period_s:
            starts.popleft()
        return starts


def _always(_limit: Limit) -> bool:
    return True


def _of(limit: Limit, count: Count) -> str:
    return f"{limit.name} ({limit.scope.value}{' ' + count[1] if count[1] else ''})"
