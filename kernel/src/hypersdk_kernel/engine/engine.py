"""The engine put together: everything that jobs need, made in order and started in order.

Not here: hosts, services, listeners (server.app is the composition root; this is its engine room).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hypersdk_kernel.engine import taskspec
from hypersdk_kernel.engine.bandwidth import Bandwidth
from hypersdk_kernel.engine.clockwatch import ClockWatch
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.dependencies import DependencyGate
from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.engine.documents import Documents
from hypersdk_kernel.engine.explain import Explainer
from hypersdk_kernel.engine.groups import JobGroups
from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.engine.maintenance import QueueControl
from hypersdk_kernel.engine.policykinds import LIMITS, WINDOWS
from hypersdk_kernel.engine.reopening import Reopening
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.engine.submission import Submission
from hypersdk_kernel.engine.windows import WindowBook
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.plugin import Generation
from hypersdk_kernel.store.engine import Store


class Engine:
    """Its life: made, `load`; then `start` (takes up what the store says is unfinished) and `stop` (runners go on), as
    often as this kernel becomes the leader and stops being it. Without `start` it serves: it takes jobs and answers."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registry: taskspec.Registry,
        connections: Connections,
        runs: Path,
        settings: RunnerSettings,
        verify: Callable[[Generation], None] = lambda _generation: None,
        host_command: Callable[[Generation], Sequence[str]] = lambda _generation: (),
    ) -> None:
        """`verify` and `host_command`: see Preparer."""
        self.started = False
        self.store = store
        self.connections = connections
        self.windows = Documents(store, WINDOWS)
        self.limits = Documents(store, LIMITS)
        self.window_book = WindowBook(self.windows)
        self.dispatcher = Dispatcher(store, clock, registry, connections, runs, settings, verify, host_command)
        self.control = QueueControl(store, clock, self.limits, self.window_book, self.dispatcher)
        admission = self.dispatcher.admission
        self.submission = Submission(
            clock, registry, connections, self.window_book, admission.gates, self.control.check_open
        )
        self.jobs = Jobs(store, clock, self.submission, self.dispatcher)
        self.groups = JobGroups(store, self.jobs, self.submission)
        self.reopening = Reopening(clock, self.window_book, self.jobs)
        self.bandwidth = Bandwidth(self.dispatcher.queue, self.window_book, self.dispatcher.moving)
        self.explainer = Explainer(clock, self.dispatcher, self.control)
        dependencies = DependencyGate(self.jobs.peek, self.jobs.some, self.dispatcher.persist, admission.reconsider)
        admission.gates += [dependencies, self.window_book]
        self.dispatcher.overrun.closings.append(self.window_book)
        self.dispatcher.on_running.append(self.bandwidth.rebalance)
        self.control.changed.append(self.bandwidth.rebalance)
        self.window_book.changed += [
            admission.reconsider_all, self.dispatcher.overrun.again, self.bandwidth.rebalance,
        ]  # fmt: skip
        self.clock_watch = ClockWatch(clock)
        self.clock_watch.on_step.append(self._clock_set)
        for part in (dependencies, self.window_book, self.control, self.reopening, self.groups):
            store.on_commit.append(part.notice)

    async def load(self) -> None:
        """Policies: every kernel checks jobs by them."""
        await self.window_book.load()
        await self.control.load()

    async def start(self) -> None:
        self.control.open()
        await self.load()
        await self.dispatcher.start()
        await self.reopening.start()
        await self.groups.start()
        await self.clock_watch.start()
        self.started = True

    async def stop(self) -> None:
        self.started = False
        await self.clock_watch.stop()
        self.control.close()
        await self.groups.stop()
        await self.reopening.stop()
        await self.dispatcher.stop()

    def _clock_set(self, step: float) -> None:
        """Windows stand otherwise now, and so does everything that was reckoned by them; the rest may be due."""
        self.dispatcher.clock_set(step)
        for listener in self.window_book.changed:
            listener()
        self.reopening.alarms.ring_due()
