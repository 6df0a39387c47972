"""Schedules under random edits, clock moves, ends of jobs and crashes, against a model that keeps lists of minutes."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypersdk.errors import FailedPrecondition
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.job import JobEvent
from hypersdk_kernel.model.schedule import MissedPolicy, OverlapPolicy
from hypersdk_kernel.model.timing import Timing
from hypersdk_kernel.store.engine import Store
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support import statemachines
from support.scheduling import Crash, Timetable

MINUTE, DAY = 60, 86400
KINDS = {
    "*/7 * * * *": lambda minute: minute // MINUTE % 60 % 7 == 0,
    "30 2 * * *": lambda minute: minute % DAY == 150 * MINUTE,
    "15 */5 * * *": lambda minute: minute % DAY // MINUTE % 300 == 15,
    "@every 11m": None,
}
"""Cron text → whether a whole minute matches."""


@dataclass
class Expected:
    """What a schedule should be, and the jobs it should have made."""

    kind: str
    overlap: OverlapPolicy
    missed: MissedPolicy
    limit: int
    anchor: int
    cursor: float
    paused: bool = False
    runs: list[float] = field(default_factory=list)
    open: dict[float, bool] = field(default_factory=dict)  # occurrence → has it been started?
    skipped: int = 0
    given_up: int = 0
    cancelled: int = 0

    def tick(self, now: float) -> None:
        if self.paused:
            return
        matches = KINDS[self.kind]
        if matches is None:
            times = range(self.anchor, int(now) + 1, 11 * MINUTE)
        else:
            times = filter(matches, range(int(self.cursor) // MINUTE * MINUTE, int(now) + 1, MINUTE))
        due = [float(moment) for moment in times if moment > self.cursor]
        if not due:
            return
        on_time = now - due[-1] <= 60
        count = {MissedPolicy.SKIP: int(on_time), MissedPolicy.RUN_ONCE: 1, MissedPolicy.CATCH_UP: self.limit}
        run = due[max(len(due) - count[self.missed], 0) :]
        self.given_up += len(due) - len(run)
        self.cursor = due[-1]
        for occurrence in run:
            if not self.fire(occurrence):
                self.skipped += 1

    def fire(self, occurrence: float) -> bool:
        if self.overlap is OverlapPolicy.FORBID and self.open:
            return False
        if self.overlap is OverlapPolicy.QUEUE and len(self.open) >= 100:
            return False
        if self.overlap is OverlapPolicy.REPLACE:
            for earlier in [o for o, started in self.open.items() if not started]:
                del self.open[earlier]
                self.cancelled += 1
        self.runs.append(occurrence)
        self.open[occurrence] = False
        return True


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hypersdk-"))
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.expected: dict[str, Expected] = {}
        self.run(self._open())

    async def _open(self):
        self.store = await Store.open(self.folder / "state.db", self.clock)
        self.table = Timetable(self.store, self.clock)
        await self.table.scheduler.load()

    def run(self, work):
        return self.runner.run(work)

    def teardown(self):
        self.run(self.table.scheduler.stop())
        self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(
        name=st.sampled_from("abc"), kind=st.sampled_from(sorted(KINDS)), overlap=st.sampled_from(OverlapPolicy),
        missed=st.sampled_from(MissedPolicy), limit=st.integers(1, 4),
    )  # fmt: skip
    def make_or_change(self, name, kind, overlap, missed, limit):
        values = {"timing": Timing(cron=kind), "overlap": overlap, "missed": missed, "catch_up_limit": limit}
        now = self.clock.now()
        old = self.expected.get(name)
        if old is None:
            template = {"task": "noop", "spec": {"at": "${scheduled_time}"}}
            self.run(self.table.schedules.create(name, {**values, "template": template}, actor="test"))
            self.expected[name] = Expected(kind, overlap, missed, limit, int(now), now)
            return
        self.run(self.table.schedules.update(name, values, actor="test"))
        if old.kind != kind:
            old.kind, old.anchor, old.cursor = kind, int(now), max(old.cursor, now)
        old.overlap, old.missed, old.limit = overlap, missed, limit

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def pause_or_resume(self, data):
        name = data.draw(st.sampled_from(sorted(self.expected)))
        state = self.expected[name]
        if state.paused:
            self.run(self.table.schedules.resume(name, actor="test"))
            state.cursor = max(state.cursor, self.clock.now())
        else:
            self.run(self.table.schedules.pause(name, "why not", actor="test"))
        state.paused = not state.paused

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def run_by_hand(self, data):
        name = data.draw(st.sampled_from(sorted(self.expected)))
        self.clock.advance(0.125)  # so that each run has a time of its own
        try:
            self.run(self.table.schedules.run(name, actor="test"))
            done = True
        except FailedPrecondition as exc:
            assert exc.reason == "SCHEDULE_RUNNING"
            done = False
        assert self.expected[name].fire(round(self.clock.now(), 3)) == done

    @precondition(lambda self: any(state.open for state in self.expected.values()))
    @rule(data=st.data(), event=st.sampled_from([JobEvent.SUCCEED, JobEvent.FAIL, None]))
    def start_or_end_a_job(self, data, event):
        name = data.draw(st.sampled_from(sorted(n for n, state in self.expected.items() if state.open)))
        state = self.expected[name]
        occurrence = data.draw(st.sampled_from(sorted(state.open)))
        job = next(j for j in self.run(self.table.jobs.all()) if (j.schedule, j.scheduled_time) == (name, occurrence))
        if event is not None:
            self.run(self.table.jobs.end(job.id, event))
            del state.open[occurrence]
        elif not state.open[occurrence]:
            self.run(self.table.jobs.start(job.id))
            state.open[occurrence] = True

    @rule(seconds=st.one_of(st.integers(1, 900), st.integers(3600, 2 * DAY)))
    def pass_time(self, seconds):
        self.clock.advance(seconds)
        self._tick()

    @rule(seconds=st.integers(1, DAY))
    def set_the_clock_back(self, seconds):
        self.clock.set(self.clock.now() - seconds)
        self._tick()

    @rule(seconds=st.integers(60, DAY), step=st.integers(1, 8), before=st.booleans())
    def die_at_a_write(self, seconds, step, before):
        self.clock.advance(seconds)
        store = self.table.store
        store.writes, store.dies_at, store.before = 0, step, before
        try:
            self.run(self.table.settle())
        except Crash:
            self.run(self.table.reboot())
        store.dies_at = 0
        self._tick()

    def _tick(self):
        self.run(self.table.settle())
        for state in self.expected.values():
            state.tick(self.clock.now())

    @invariant()
    def every_job_and_count_is_as_expected(self):
        made: dict[str, list[float]] = {name: [] for name in self.expected}
        for job in self.run(self.table.jobs.all()):
            made[job.schedule].append(job.scheduled_time)
        for name, state in self.expected.items():
            assert sorted(made[name]) == sorted(state.runs), name
            status = self.run(self.table.schedules.get(name)).status
            found = (status.run_count, status.skipped_count, status.missed_count, status.cancelled_count)
            assert found == (len(state.runs), state.skipped, state.given_up, state.cancelled), name
            assert status.refused_count == 0


def test_schedules_do_what_a_simple_reference_says():
    statemachines.run(SchedulerMachine, examples=20, steps=25)
