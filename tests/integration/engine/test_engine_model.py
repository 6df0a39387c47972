"""The engine against a simple reference: random submits, ends, cancels, pauses, retries, windows, limits, clock jumps
and lost kernels. After each step every job must be in the state that the reference has it in, and as much must run as
may."""

import asyncio
import itertools
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypersdk.errors import HyperError
from hypersdk_kernel.engine.maintenance import Mode
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.dependency import Dependency, Need, Unmet
from hypersdk_kernel.model.job import NewJob
from hypersdk_kernel.model.limit import Limit, Scope
from hypersdk_kernel.model.retry import Backoff, RetryPolicy
from hypersdk_kernel.model.window import DAY_S, Span, Window
from hypersdk_kernel.store.sqlite import Sqlite
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import statemachines
from support.engineworld import World

ENDS = {"succeeded", "failed", "cancelled"}
MAX_RUNNERS = 2
BASE_S = 10.0
ALWAYS, NEVER = (Span(tuple(range(7)), 0, DAY_S),), (("2000-01-01", "2099-12-31"),)


@dataclass
class Ref:
    """What the reference knows of a job."""

    deps: list[tuple[str, Need]]
    unmet: Unmet
    not_before: float | None
    deadline: float | None
    window: bool
    max_attempts: int
    state: str = "ready"  # ready (waiting, queued or running), paused, retrying, or an end
    attempts: int = 0
    running: bool = False
    next_time: float = 0.0
    wait_s: float = 0.0
    next_monotonic: float = 0.0
    succeeded: int = 0


@dataclass
class Reference:
    jobs: dict[str, Ref] = field(default_factory=dict)
    open: bool = True
    limit: int = 0
    drained: bool = False

    def verdict(self, ref: Ref, now: float) -> str:
        """run, wait, or how it ends."""
        if ref.deadline is not None and now >= ref.deadline:
            return "failed"
        if ref.not_before is not None and now < ref.not_before:
            return "wait"
        waits = False
        for name, need in ref.deps:
            state = self.jobs[name].state
            if state not in ENDS:
                waits = True
            elif ref.unmet is not Unmet.RUN and need is not Need.FINISHED and state != need.value:
                return "cancelled" if ref.unmet is Unmet.CANCEL else "failed"
        if waits or (ref.window and not self.open):
            return "wait"
        return "run"

    def settle(self, now: float, monotonic: float) -> None:
        """Times that are over, and ends that follow from other ends."""
        for ref in self.jobs.values():
            if ref.state in {"ready", "paused"} and ref.running and ref.deadline is not None and now >= ref.deadline:
                ref.state, ref.running = "failed", False
            if ref.state == "retrying" and monotonic >= ref.next_monotonic:
                ref.state = "ready"
        changed = True
        while changed:
            changed = False
            for ref in self.jobs.values():
                if ref.state == "ready" and not ref.running:
                    verdict = self.verdict(ref, now)
                    if verdict in ENDS:
                        ref.state, changed = verdict, True

    def end(self, ref: Ref, how: str, clock: ManualClock) -> None:
        ref.running = False
        if how == "succeed":
            ref.state, ref.succeeded = "succeeded", ref.succeeded + 1
        elif how == "fail" or ref.attempts >= ref.max_attempts:
            ref.state = "failed"
        elif ref.state != "paused":
            ref.state, ref.wait_s = "retrying", BASE_S * ref.attempts
            ref.next_time, ref.next_monotonic = clock.now() + ref.wait_s, clock.monotonic() + ref.wait_s

    def begin_anew(self, clock: ManualClock) -> None:
        """A kernel that starts has only the wall clock to tell how much of a wait is left: at most all of it."""
        for ref in self.jobs.values():
            left_s = max(ref.next_time - clock.now(), 0.0)
            ref.next_monotonic = clock.monotonic() + min(left_s, ref.wait_s)


class EngineMachine(RuleBasedStateMachine):
    registry = None

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="hypersdk-model-"))
        self.ref = Reference()
        self.names = (f"j{n}" for n in itertools.count())

    def do(self, work):
        return self.loop.run_until_complete(work)

    def boot(self):
        self.world = World(
            lambda: Sqlite(self.folder / "state.db"), self.registry, self.folder, max_runners=MAX_RUNNERS
        )
        self.world.may_start = self.may_start
        self.do(self.world.boot())
        self.do(self.world.engine.windows.create(Window("w", spans=ALWAYS), actor="test"))
        self.do(self.world.settle())

    @initialize(several=st.integers(3, 8), data=st.data())
    def begin_with_a_few(self, several, data):
        self.boot()
        for _ in range(several):
            self.submit_one(data)

    def teardown(self):
        if hasattr(self, "world"):
            self.do(self.world.lose())
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def now(self):
        return self.world.clock.now()

    def may_start(self, job_id):
        ref = self.ref.jobs[job_id]
        self.ref.settle(self.now, self.world.clock.monotonic())
        ok = ref.state == "ready" and not ref.running and self.ref.verdict(ref, self.now) == "run"
        ref.attempts += 1
        ref.running = True
        return ok

    def has(self, *states, running=None):
        return any(ref.state in states and running in {None, ref.running} for ref in self.ref.jobs.values())

    def some(self, data, *states, running=None):
        found = [
            name for name, ref in self.ref.jobs.items()
            if ref.state in states and (running is None or ref.running is running)
        ]  # fmt: skip
        return data.draw(st.sampled_from(found)) if found else None

    # What happens.

    @rule(data=st.data())
    def submit(self, data):
        self.submit_one(data)

    def submit_one(self, data):
        before = data.draw(st.sampled_from([None, None, 50.0, 4000.0]))
        until = data.draw(st.sampled_from([None, None, 100.0, 9000.0]))
        window = data.draw(st.booleans())
        attempts = data.draw(st.integers(1, 3))
        unmet = data.draw(st.sampled_from(list(Unmet)))
        priority = data.draw(st.integers(0, 100))
        name = next(self.names)
        known = sorted(self.ref.jobs)
        edges = st.tuples(st.sampled_from(known or [""]), st.sampled_from(list(Need)))
        deps = data.draw(st.lists(edges, max_size=2 if known else 0))
        if before is not None and until is not None and before >= until:
            until = None
        ref = Ref(
            deps, unmet, None if before is None else self.now + before, None if until is None else self.now + until,
            window, attempts,
        )  # fmt: skip
        self.ref.jobs[name] = ref
        new = NewJob(
            name, "probe", {"count": "x"}, priority=priority,
            retry=RetryPolicy(attempts, BASE_S, strategy=Backoff.LINEAR, jitter=0.0),
            dependencies=tuple(Dependency(d, n) for d, n in deps), unmet=unmet, not_before=ref.not_before,
            deadline=ref.deadline, window="w" if window else "",
        )  # fmt: skip
        self.do(self.world.jobs.create(new, actor="test"))
        self.do(self.world.settle())

    @precondition(lambda self: self.has("ready", "paused", running=True))
    @rule(data=st.data(), how=st.sampled_from(["succeed", "succeed", "fail", "stumble", "die"]))
    def finish(self, data, how):
        name = self.some(data, "ready", "paused", running=True)
        self.ref.end(self.ref.jobs[name], how, self.world.clock)
        self.do(self.world.finish(name, how))

    @precondition(lambda self: self.has("ready", "paused", "retrying"))
    @rule(data=st.data())
    def cancel(self, data):
        name = self.some(data, "ready", "paused", "retrying")
        self.ref.jobs[name].state, self.ref.jobs[name].running = "cancelled", False
        self.do(self.world.jobs.cancel(name, actor="test"))
        self.do(self.world.settle())

    @precondition(lambda self: self.has("ready", "retrying"))
    @rule(data=st.data())
    def pause(self, data):
        name = self.some(data, "ready", "retrying")
        self.ref.jobs[name].state = "paused"
        self.do(self.world.jobs.pause(name, actor="test"))
        self.do(self.world.settle())

    @precondition(lambda self: self.has("paused"))
    @rule(data=st.data())
    def resume(self, data):
        name = self.some(data, "paused")
        self.ref.jobs[name].state = "ready"
        self.do(self.world.jobs.resume(name, actor="test"))
        self.do(self.world.settle())

    @precondition(lambda self: self.has("failed", "cancelled"))
    @rule(data=st.data())
    def retry(self, data):
        name = self.some(data, "failed", "cancelled")
        ref = self.ref.jobs[name]
        ref.state, ref.max_attempts = "ready", ref.max_attempts + ref.attempts
        self.do(self.world.jobs.retry(name, actor="test"))
        self.do(self.world.settle())

    @precondition(lambda self: self.has("succeeded"))
    @rule(data=st.data())
    def refuse_what_the_table_refuses(self, data):
        name = self.some(data, "succeeded")
        for ask in (self.world.jobs.cancel, self.world.jobs.pause, self.world.jobs.retry):
            with pytest.raises(HyperError):
                self.do(ask(name, actor="test"))

    @rule(seconds=st.sampled_from([1.0, 15.0, 120.0, 5000.0]))
    def time_passes(self, seconds):
        self.do(self.world.pass_time(seconds))

    @rule(seconds=st.sampled_from([-86400.0, 86400.0]))
    def the_clock_is_set(self, seconds):
        self.do(self.world.set_clock(seconds))

    @rule(is_open=st.booleans())
    def the_window_changes(self, is_open):
        self.ref.open = is_open
        blackouts = () if is_open else NEVER
        change = lambda old: Window("w", spans=ALWAYS, blackouts=blackouts)  # noqa: E731
        self.do(self.world.engine.windows.update("w", change, actor="test"))
        self.do(self.world.settle())

    @rule(most=st.integers(0, 2))
    def the_limit_changes(self, most):
        if self.ref.limit:
            self.do(self.world.engine.limits.delete("l", actor="test"))
        if most:
            self.do(self.world.engine.limits.create(Limit("l", Scope.TASK, "probe", max_running=most), actor="test"))
        self.ref.limit = most
        self.do(self.world.settle())

    @rule(drained=st.booleans())
    def the_queue_is_drained_or_opened(self, drained):
        self.ref.drained = drained
        mode = Mode.DRAINING if drained else Mode.OPEN
        self.do(self.world.engine.control.set_mode(mode, "", actor="test"))
        self.do(self.world.settle())

    @precondition(lambda self: self.ref.jobs)
    @rule(meanwhile=st.lists(st.sampled_from(["succeed", "fail", "stumble", "die"]), max_size=2))
    def the_kernel_is_lost(self, meanwhile):
        self.do(self.world.lose())
        self.ref.begin_anew(self.world.clock)
        for (name, number), how in zip(self.world.open_attempts(), meanwhile, strict=False):
            from support.engineworld import OUTCOMES

            self.world.attempts[name, number].finish(OUTCOMES[how])
            self.ref.end(self.ref.jobs[name], how, self.world.clock)
        self.do(self.world.boot())

    # What must hold.

    @invariant()
    def every_job_is_where_the_reference_has_it(self):
        if not hasattr(self, "world"):
            return
        self.ref.settle(self.now, self.world.clock.monotonic())
        for name, ref in self.ref.jobs.items():
            actual = self.world.jobs.peek(name)
            state = actual.state.value
            assert ref.succeeded <= 1
            assert actual.attempt_count == ref.attempts, (name, actual, ref)
            if ref.state != "ready":
                assert state == ref.state, (name, actual.state_message, ref)
            elif ref.running:
                assert state == "running", (name, state, actual.state_message, ref)
            elif self.ref.verdict(ref, self.now) == "wait":
                assert state in {"waiting", "queued"}, (name, state, ref)  # queued: looked at again before it starts
            else:
                assert state == "queued", (name, state, actual.state_message, ref)

    @invariant()
    def as_much_runs_as_may(self):
        if not hasattr(self, "world") or self.ref.drained:
            return
        moving = sum(ref.running for ref in self.ref.jobs.values() if ref.state == "ready")
        startable = sum(
            ref.state == "ready" and not ref.running and self.ref.verdict(ref, self.now) == "run"
            for ref in self.ref.jobs.values()
        )
        most = min(MAX_RUNNERS, self.ref.limit or MAX_RUNNERS)
        assert not startable or moving >= most, (moving, startable, most)


def test_the_engine_does_what_a_simple_reference_says(registry):
    EngineMachine.registry = registry
    statemachines.run(EngineMachine, examples=30, steps=40)
