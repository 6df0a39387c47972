"""The order in which queued jobs start. Pure: the time is passed in.

Jobs wait in **lanes**: those of one owner that the same limits count. Within a lane the order never changes, so it is a
sorted list, in which any job's place is found by bisection; between lanes the first of each are compared, and a lane
whose limit is reached is passed over whole, so that a full limit costs the others nothing.

The order: an operator's `rank` first; then the job's *virtual time*, which is its creation less AGEING_S for every
point of priority. So a point is worth a minute of waiting, and whoever waits long enough is first: nothing starves.
Each job of an owner that runs puts the owner's next one FAIR_S later, so that who submits ten thousand does not keep
out who submits one.

Not here: what keeps a job from being queued at all (gates), how limits are kept (limits).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypersdk_kernel.engine.limits import Count, LimitBook
from hypersdk_kernel.model.job import Job
from hypersdk_kernel.model.limit import Facts, Limit

AGEING_S = 60.0
"""Seconds of waiting that one point of priority is worth: 100 points are 100 minutes."""
FAIR_S = 300.0
"""Seconds by which each running job of an owner sets back the owner's next: five jobs ahead cost 25 points."""

Order = tuple[int, float, float, str]
"""(-rank, virtual time, create time, job id)."""


_KNOWN = 4096
_TRIM = 1024
"""Taken places at the head of a lane that are kept until there are so many, and more than live ones."""


@dataclass(slots=True)
class _Lane:
    """`places` in order from `head` on. New jobs go to its end and the next one leaves its head, mostly, which costs
    nothing; anything else moves pointers in memory, 30 µs for a hundred thousand."""

    owner: str
    counts: tuple[Count, ...]
    brief: bool = False
    places: list[Order] = field(default_factory=list)
    head: int = 0
    live: dict[str, Order] = field(default_factory=dict)

    def first(self) -> Order | None:
        return self.places[self.head] if self.live else None

    def put(self, job_id: str, order: Order) -> None:
        self.live[job_id] = order
        if len(self.places) == self.head or order > self.places[-1]:
            self.places.append(order)
        else:
            insort(self.places, order, self.head)

    def take(self, job_id: str) -> None:
        order = self.live.pop(job_id)
        at = bisect_left(self.places, order, self.head)
        if at != self.head:
            del self.places[at]
            return
        self.head += 1
        if self.head > _TRIM and self.head > len(self.live):
            del self.places[: self.head]
            self.head = 0

    def before(self, order: Order) -> int:
        """How many are before `order`."""
        return bisect_left(self.places, order, self.head) - self.head


class ReadyQueue:
    """Jobs that wait for room. `push` and `remove` cost O(log n), `pop` and `standing` O(lanes)."""

    def __init__(self, limits: LimitBook | None = None) -> None:
        self.limits = limits or LimitBook()
        self._lanes: dict[tuple[str, tuple[Count, ...], bool], _Lane] = {}
        self._lane_of: dict[str, _Lane] = {}
        self._facts: dict[str, Facts] = {}
        self._known: dict[tuple[object, ...], Facts] = {}
        self._running: Counter[str] = Counter()
        self._started: dict[str, tuple[Facts, tuple[Count, ...]]] = {}

    def __len__(self) -> int:
        return len(self._lane_of)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._lane_of

    def push(self, job: Job, facts: Facts | None = None, now: float = math.inf) -> None:
        """Add, or put in its new place. A job of the future was made before the clock was set back, by `now` at the
        latest."""
        facts = self._shared(facts or Facts(job.task, job.owner, job.labels))
        virtual = min(job.create_time, now) - job.priority * AGEING_S
        self._place(job.id, (-job.rank, virtual, job.create_time, job.id), facts)

    def _shared(self, facts: Facts) -> Facts:
        """One object for all jobs of which the same is to be known: a hundred thousand have few different labels."""
        labels = tuple(sorted(facts.labels.items()))
        key = (facts.task, facts.owner, labels, facts.connections, facts.repositories, facts.brief)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        return self._known.setdefault(key, facts)

    def remove(self, job_id: str) -> None:
        lane = self._lane_of.pop(job_id, None)
        self._facts.pop(job_id, None)
        if lane is not None:
            lane.take(job_id)
            if not lane.live:
                del self._lanes[lane.owner, lane.counts, lane.brief]

    def pop(self, now: float = 0.0, *, brief: bool = False) -> str | None:
        """The id of the job, brief or not, that is next and may start at `now`, or None. It counts as running until
        `ended`."""
        best: tuple[Order, _Lane] | None = None
        for lane in self._lanes.values():
            order = lane.first() if lane.brief is brief else None
            if order is None:
                continue
            effective = (order[0], order[1] + FAIR_S * self._running[lane.owner], order[2], order[3])
            if (best is None or effective < best[0]) and self.limits.blocking(lane.counts, now) is None:
                best = effective, lane
        if best is None:
            return None
        job_id = best[0][3]
        facts = self._facts[job_id]
        self.remove(job_id)
        self.started(job_id, facts, now)
        return job_id

    def started(self, job_id: str, facts: Facts, now: float) -> None:
        """`job_id` runs: by `pop`, or since before the kernel did, or again after a pause."""
        if job_id not in self._started:
            counts = self.limits.counts_of(facts)
            self._started[job_id] = facts, counts
            self._running[facts.owner] += 1
            self.limits.count(counts, 1)
            self.limits.note_start(counts, now)

    def ended(self, job_id: str) -> None:
        """`job_id` does not run any more, or not now: what it took is free."""
        held = self._started.pop(job_id, None)
        if held is not None:
            facts, counts = held
            self._running[facts.owner] -= 1
            if not self._running[facts.owner]:
                del self._running[facts.owner]
            self.limits.count(counts, -1)

    def clear(self) -> None:
        """Nothing waits or runs any more, as far as this kernel is concerned. Limits stay."""
        for job_id in list(self._started):
            self.ended(job_id)
        self._lanes.clear()
        self._lane_of.clear()
        self._facts.clear()
        self._known.clear()

    def running_facts(self) -> dict[str, Facts]:
        """What runs, by job id."""
        return {job_id: facts for job_id, (facts, _) in self._started.items()}

    def set_back(self, now: float, by: float) -> None:
        """The clock that `now` is read from was set back by so many seconds. What waits was made by then and has waited
        as long as it had; else all that comes until the clock is where it was would pass it."""
        self.limits.set_back(now, by)
        for job_id, ((rank, virtual, created, _), facts) in self._waiting().items():
            self._place(job_id, (rank, virtual - by if created > now else virtual, created, job_id), facts)

    def relimit(self, limits: Iterable[Limit]) -> None:
        """Other limits from now on: count what runs and sort what waits anew."""
        for _, counts in self._started.values():
            self.limits.count(counts, -1)
        self.limits.replace(limits)
        for job_id, (facts, _) in self._started.items():
            counts = self.limits.counts_of(facts)
            self._started[job_id] = facts, counts
            self.limits.count(counts, 1)
        for job_id, (order, facts) in self._waiting().items():
            self._place(job_id, order, facts)

    def _waiting(self) -> dict[str, tuple[Order, Facts]]:
        """What waits, taken out of its lanes."""
        waiting = {job_id: (lane.live[job_id], self._facts[job_id]) for job_id, lane in self._lane_of.items()}
        self._lanes.clear()
        self._lane_of.clear()
        return waiting

    def standing(self, job_id: str, now: float) -> tuple[int, str, float | None] | None:
        """Where a queued job stands: how many are before it, which limit (in words) its lane waits for or "", and when
        that may end, if time alone ends it. None when it is not queued."""
        lane = self._lane_of.get(job_id)
        if lane is None:
            return None
        blocked = self.limits.blocking(lane.counts, now)
        rank, virtual, created, _ = self._effective(job_id)
        before = 0
        for other in self._lanes.values():  # as `pop` compares them: each by the setback of its own owner
            setback = FAIR_S * self._running[other.owner]
            same = other.owner == lane.owner  # then without arithmetic, which may be a bit off
            before += other.before(lane.live[job_id] if same else (rank, virtual - setback, created, job_id))
        return before, blocked.message if blocked else "", blocked.until if blocked else None

    def blocked_by(self, job_id: str, now: float) -> str:
        """The limit that keeps a queued job back, in words, or ""."""
        lane = self._lane_of.get(job_id)
        blocked = self.limits.blocking(lane.counts, now) if lane is not None else None
        return blocked.message if blocked is not None else ""

    def orders(self) -> list[Order]:
        """Every queued job's place, unsorted, fairness applied."""
        return [self._effective(job_id) for job_id in self._lane_of]

    def next_release(self, now: float) -> float | None:
        """When, by time alone, a lane that a rate limit blocks may go on."""
        blocked = (self.limits.blocking(lane.counts, now) for lane in self._lanes.values())
        return min((b.until for b in blocked if b is not None and b.until is not None), default=None)

    def _effective(self, job_id: str) -> Order:
        lane = self._lane_of[job_id]
        rank, virtual, created, _ = lane.live[job_id]
        return rank, virtual + FAIR_S * self._running[lane.owner], created, job_id

    def _place(self, job_id: str, order: Order, facts: Facts) -> None:
        counts = self.limits.counts_of(facts)
        held = self._lane_of.get(job_id)
        key = facts.owner, counts, facts.brief
        if held is not None and held.live[job_id] == order and self._lanes.get(key) is held:
            return
        self.remove(job_id)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(*key)
        lane.put(job_id, order)
        self._lane_of[job_id] = lane
        self._facts[job_id] = facts
