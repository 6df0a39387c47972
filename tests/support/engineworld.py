"""An engine whose runners are a test's: attempts begin and end when the test says so, time passes when it says so, and
the kernel can be lost at any moment. Everything else is the real thing: store, dispatcher, queue, gates."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.engine import Engine
from hypersdk_kernel.engine.runner import Outcome
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.engine.vaults import Vaults
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.store.engine import Store

FAILURE = {"kind": "Unavailable", "reason": "UNAVAILABLE", "message": "come back", "retryable": True}
DEFECT = {"kind": "DataLoss", "reason": "DATA_LOSS", "message": "bad bytes", "retryable": False}
OUTCOMES = {
    "succeed": Outcome("succeeded", {"bytes": 1}),
    "fail": Outcome("failed", None, DEFECT),
    "stumble": Outcome("failed", None, FAILURE),
    "die": Outcome("lost", None, FAILURE),
    "cancelled": Outcome("cancelled"),
}


@dataclass
class Attempt:
    """One attempt as the world knows it: it outlives the kernel."""

    outcome: Outcome | None = None
    followers: list[asyncio.Future[None]] = field(default_factory=list)

    def finish(self, outcome: Outcome) -> None:
        self.outcome = self.outcome or outcome
        for follower in self.followers:
            if not follower.done():
                follower.set_result(None)
        self.followers.clear()


class FakeRunner:
    """A Runner of this world."""

    def __init__(self, world: World, job_id: str, number: int, *, paused: bool) -> None:
        self.job_id, self.number, self.paused, self.pid = job_id, number, paused, 0
        self.progress = None
        self.rundir = world
        self.rates: list[int] = []
        self._world = world

    def launch(self, spec, lock_fd):
        self._world.started(self.job_id, self.number)

    def alive(self):
        return self._entry().outcome is None

    async def outcome(self):
        entry = self._entry()
        if entry.outcome is None:
            follower = asyncio.get_running_loop().create_future()
            entry.followers.append(follower)
            await follower
        return entry.outcome

    async def wait_gone(self, timeout_s):
        return True

    def cancel(self, reason):
        self._entry().finish(OUTCOMES["cancelled"])

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    def throttle(self, bytes_per_second):
        self.rates.append(bytes_per_second)

    def kill(self):
        self._entry().finish(OUTCOMES["die"])

    def _entry(self):
        return self._world.attempts[self.job_id, self.number]


class World:
    """Its life: `boot`, anything, `lose` and `boot` again, `lose`."""

    def __init__(self, backend, registry, folder, max_runners=2):
        self.clock = ManualClock()
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.may_start = lambda job_id: True
        self.violations: list[str] = []
        """What must not happen and did, in a task of the engine's, which would only log an assertion."""
        self._backend, self._registry, self._folder = backend, registry, folder
        self._settings = RunnerSettings(max_runners=max_runners, cancel_grace_s=3600.0)

    async def boot(self):
        self.store = await Store.open(self._backend(), self.clock)
        connections = Connections(self.store, self.clock, self._registry, Vaults(self._registry, None, self.clock))
        self.engine = Engine(
            self.store, self.clock, self._registry, connections, self._folder / "runs", self._settings
        )
        self.dispatcher, self.jobs = self.engine.dispatcher, self.engine.jobs
        self.dispatcher._new_runner = lambda job, number: FakeRunner(
            self, job.id, number, paused=job.state.value == "paused"
        )
        await self.engine.start()
        await self.settle()

    async def lose(self):
        """The kernel is gone; what runs goes on."""
        await self.engine.stop()
        await self.store.close()

    def started(self, job_id, number):
        if (job_id, number) in self.attempts:
            self.violations.append(f"attempt {number} of {job_id} was started twice")
        if not self.may_start(job_id):
            self.violations.append(f"{job_id} was started although something keeps it back")
        self.attempts[job_id, number] = Attempt()

    def alive(self):
        return False

    def open_attempts(self):
        return sorted(key for key, entry in self.attempts.items() if entry.outcome is None)

    async def finish(self, job_id, how):
        number = max(n for name, n in self.attempts if name == job_id)
        self.attempts[job_id, number].finish(OUTCOMES[how])
        await self.settle()

    async def pass_time(self, seconds):
        self.clock.advance(seconds)
        self.ring()
        await self.settle()

    async def set_clock(self, seconds):
        """The wall clock is set; monotonic time is not."""
        self.clock._now += seconds
        self.engine.clock_watch.look()
        self.ring()
        await self.settle()

    def ring(self):
        engine = self.engine
        for alarms in (self.dispatcher._retries, self.dispatcher._pumping, self.dispatcher.admission.alarms,
                       engine.reopening.alarms, engine.control._edges):  # fmt: skip
            alarms.ring_due()
        self.dispatcher.overrun.ring_due()

    async def settle(self):
        """Until nothing moves but what the test moves."""
        calm = 0
        for _ in range(5000):
            await self.store.write(lambda tx: None)
            await asyncio.sleep(0)
            busy = len(self.dispatcher._background._tasks) - len(self.dispatcher.runners)
            others = (self.engine.groups._background, self.engine.reopening._background)
            busy += sum(len(background._tasks) for background in others) + len(self.dispatcher._starting)
            await self.engine.window_book.settled()
            await self.engine.control.settled()
            finished = [key for key, e in self.attempts.items() if e.outcome is not None]
            busy += sum((r.job_id, r.number) in finished for r in self.dispatcher.runners.values())
            calm = 0 if busy else calm + 1
            if calm >= 3:
                assert not self.violations, self.violations
                return
            if busy:
                await asyncio.sleep(0.001)
        raise AssertionError("it never came to rest")
