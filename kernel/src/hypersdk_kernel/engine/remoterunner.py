"""RemoteRunner: one attempt on a machine that an executor chose, from order or adoption until its outcome is known.

A Runner whose process is elsewhere. Its agent connects (remotes), is given the spec, and hands over records, which are
in the kernel's own run directory before they count; so what an attempt's end means, and what is left to clean up, is
read where it always is.

When nobody is connected, the executor is asked, and two things are kept apart. The agent surely ended: the attempt is
lost, at once. Nobody knows: it is lost when its runner must have ended itself, because no kernel asked for it in
`orphan_s`. Only then may the job run elsewhere, so that never two runners of one job are at work. From the moment the
outcome is read nothing of this attempt is taken any more.

Not here: listening and certificates (remotes), the files (mirror), the next attempt (dispatcher).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from hypersdk.errors import FailedPrecondition, HyperError, InvalidArgument, Unavailable, Unsupported

from hypersdk_kernel.engine.executors import Executors, OrderStatus, Placement
from hypersdk_kernel.engine.mirror import Mirror, not_live
from hypersdk_kernel.engine.remotelink import RemoteLink
from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.engine.runner import Outcome, Runner
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, JobState, Progress

log = structlog.get_logger(__name__)

PING_ANSWER_S = 20.0
HUNG_S = 60.0
LAST_LOGS_S = 5.0
"""After `finished`: for what the attempt logged last."""
LEAVING_S = 3.0
"""For an agent that is done: it clears its machine and ends by itself."""
ENDED_GRACE_S = 2.0
"""What was started for an agent that has ended ends with it, within moments."""


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """orphan_s      as RunnerSettings: an attempt that no kernel asks for in so many seconds ends itself
    lost_after_s  by then it has, wherever it is
    place_s       for an executor to find a machine and start the agent there
    poll_s        how often an executor is asked about an attempt that is not connected
    work_dir      on the machines: where agents keep what runs
    log_limit     bytes kept of each of an attempt's logs
    """

    orphan_s: int = 60
    lost_after_s: float = 120.0
    place_s: float = 300.0
    poll_s: float = 2.0
    work_dir: str = "/var/tmp/hypersdk-runners"  # noqa: S108 - made with mode 0700, and checked
    log_limit: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Lost:
    """Why an attempt is given up. `status` as in Outcome."""

    status: str
    error: HyperError | None


class RemoteRunner(Runner):
    """See the module's docstring. `order`: the agent's order; `make_spec`: the runner's spec, again."""

    def __init__(
        self,
        job: Job,
        number: int,
        rundir: RunDir,
        clock: Clock,
        executors: Executors,
        settings: RemoteSettings,
        *,
        order: Callable[[], str],
        make_spec: Callable[[], Awaitable[dict[str, Any]]],
        live: Callable[[RemoteRunner, bool], None],
        pace: Callable[[], float] = lambda: 0.2,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """`live` is told when this attempt's agent may connect, and when it may not any more; `pace` says how often, in
        seconds, it may tell of progress."""
        super().__init__(
            job.id, number, rundir, clock,
            paused=job.state is JobState.PAUSED, bandwidth_limit=job.bandwidth_limit_bytes, on_progress=on_progress,
        )  # fmt: skip
        self.uid = job.uid
        self.mirror = Mirror(rundir, number, settings.log_limit)
        self._placement = dict(job.placement)
        self._executor = job.executor
        self._executors = executors
        self._settings = settings
        self._order = order
        self._make_spec = make_spec
        self._live = live
        self._pace = pace
        self._spec: dict[str, Any] | None = None
        self._lock_fd = -1
        self._link: RemoteLink | None = None
        self._began = self._heard = clock.monotonic()
        self._ordered = False
        self._done = asyncio.Event()
        self._over = asyncio.Event()
        self._end: Lost | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def reference(self) -> str:
        return f"{self.uid}-{self.number}"

    # -- what the dispatcher asks ----------------------------------------------------------------------------

    def launch(self, spec: dict[str, Any], lock_fd: int) -> None:
        """Remember what to run; `outcome` has it placed."""
        self._spec = spec
        self._lock_fd = os.dup(lock_fd)

    async def outcome(self) -> Outcome:
        """Follow it to its end. Cancelling this lets go of the attempt, which goes on."""
        if self._lock_fd < 0:
            self._lock_fd = self.rundir.lock() or -1
        self._live(self, True)
        supervise = asyncio.create_task(self._supervise())
        beat = asyncio.create_task(self._beat())
        finished = asyncio.create_task(self._finished.wait())
        if self.rundir.journal(self.number).finished is not None:  # an earlier kernel did not get to settle it
            self._finished.set()
            self._done.set()
        try:
            await asyncio.wait({supervise, finished}, return_when=asyncio.FIRST_COMPLETED)
            if self._finished.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._done.wait(), LAST_LOGS_S)
            await asyncio.to_thread(self.mirror.fence)
            outcome = self._told(supervise.result() if supervise.done() else None)
            self._spawn(self._take_back(LEAVING_S if self._done.is_set() else 0.0))
            return outcome
        finally:
            self._live(self, False)
            for task in (supervise, beat, finished):
                task.cancel()
            await asyncio.gather(supervise, beat, finished, return_exceptions=True)
            self._detach()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    async def wait_gone(self, timeout_s: float) -> bool:  # noqa: ARG002 - as Runner has it
        """An outcome is told when the runner has ended, or must have."""
        return True

    def kill(self) -> None:
        """The runner, through its agent if that is there, and the agent, through the executor."""

        async def kill() -> None:
            link = self._link
            if link is not None:
                with contextlib.suppress(HyperError):
                    await link.request("kill", {}, PING_ANSWER_S)
            await self._take_back()

        self._spawn(kill())

    def cancel(self, reason: str) -> None:
        super().cancel(reason)
        self._changed.set()

    def _told(self, lost: Lost | None) -> Outcome:
        journal = self.rundir.journal(self.number)
        finished = journal.finished
        if finished is not None:
            return Outcome(str(finished.get("status")), finished.get("result"), finished.get("error"), journal)
        assert lost is not None
        return Outcome(lost.status, None, None if lost.error is None else lost.error.to_json(), journal)

    async def _take_back(self, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        try:
            await self._executors.cancel(self._executor, self.reference)
        except HyperError as exc:
            log.info("order_not_taken_back", job=self.job_id, attempt=self.number, reason=exc.reason)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        _WORK.add(task)
        task.add_done_callback(_WORK.discard)

    # -- placing, and finding out that it is lost ------------------------------------------------------------

    async def _supervise(self) -> Lost:
        """Returns when the attempt has ended without `finished`, with why."""
        while True:
            self._changed.clear()
            if self._end is not None:
                return self._end
            if self._link is None:
                lost = await self._look()
                if lost is not None:
                    return lost
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._settings.poll_s)

    async def _look(self) -> Lost | None:
        if self._cancel_reason is not None and not self.mirror.enrolled:
            await asyncio.to_thread(self.mirror.fence)
            return Lost("cancelled", None)
        try:
            status = await self._ask()
        except HyperError as exc:
            log.info("executor_silent", job=self.job_id, attempt=self.number, reason=exc.reason, message=exc.message)
            if not exc.retryable and not self.mirror.enrolled:
                return Lost("failed", exc)
            status = OrderStatus(Placement.LOST, message=exc.message)
        if self._link is not None:  # while we asked
            return None
        lost = self._judge(status, self._clock.monotonic())
        if lost is not None and status.placement is Placement.ENDED:
            await asyncio.sleep(ENDED_GRACE_S)
            return None if self._link is not None else lost
        return lost

    async def _ask(self) -> OrderStatus:
        if self._ordered:
            return await self._executors.status(self._executor, self.reference)
        status = OrderStatus(Placement.UNKNOWN)
        if self._spec is None:
            status = await self._executors.reattach(self._executor, self.reference)
        if status.placement is Placement.UNKNOWN and not self.mirror.enrolled:
            status = await self._executors.submit(self._executor, self.reference, self._order(), self._placement)
        self._ordered = True
        log.info("attempt_ordered", job=self.job_id, attempt=self.number, executor=self._executor, node=status.node)
        return status

    def _judge(self, status: OrderStatus, now: float) -> Lost | None:
        """What an executor's answer means for an attempt that is not connected."""
        settings, silent_s = self._settings, now - self._heard
        where = f" on {status.node}" if status.node else ""
        said = f": {status.message}" if status.message else ""
        if status.placement is Placement.ENDED:
            return _lost(f"the agent of attempt {self.number}{where} ended without a word{said}")
        if not self.mirror.enrolled:
            if now - self._began <= settings.place_s:
                return None
            return Lost("lost", Unavailable(
                f"executor/{self._executor} had no machine for placement {self._placement} in {settings.place_s:g} s"
                f"{said}; look at `placement`, and at the engine's machines", reason="PLACEMENT_TIMEOUT",
            ))  # fmt: skip
        if silent_s > settings.lost_after_s:
            return _lost(f"nothing was heard of attempt {self.number}{where} for {silent_s:.0f} s{said}")
        return None

    async def _beat(self) -> None:
        """Keep the runner from taking itself for an orphan, and notice when nobody is there any more."""
        every_s = min(10.0, self._settings.orphan_s / 4)
        answered = self._clock.monotonic()
        while True:
            await asyncio.sleep(every_s)
            link = self._link
            if link is None:
                answered = self._clock.monotonic()
                continue
            try:
                told = await link.request("ping", {"pace_s": self._pace()}, PING_ANSWER_S)
            except HyperError as exc:
                log.info("agent_silent", job=self.job_id, attempt=self.number, reason=exc.reason)
                link.close()
                continue
            now = self._heard = self._clock.monotonic()
            if not (isinstance(told, dict) and told.get("silent")):
                answered = now
            elif now - answered > HUNG_S:
                log.warning("runner_hung", job=self.job_id, attempt=self.number)
                self.kill()

    # -- what the agent says ---------------------------------------------------------------------------------

    def gone(self, link: RemoteLink) -> None:
        """A connection ended."""
        if self._link is link:
            self._link = self._peer = None
            self._changed.set()

    async def serve(self, link: RemoteLink, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the agent. Raises Aborted (ATTEMPT_NOT_LIVE) when it has been replaced, and what a mirror raises."""
        if method == "hello":
            return await self._hello(link, params)
        if link is not self._link:
            raise Unavailable("this connection was replaced by another one", reason="CONNECTION_CLOSED")
        if method == "records":
            return await self._records(params)
        if method == "progress":
            self._on_notification("progress", params)
        elif method == "checkpoint":
            await asyncio.to_thread(self.mirror.checkpoint, params)
        elif method == "read_checkpoint":
            return {"data": await asyncio.to_thread(self.mirror.read_checkpoint, params.get("offset"))}
        elif method == "log":
            await asyncio.to_thread(self.mirror.log, params)
        elif method == "done":
            self._done.set()
        elif method == "exited":
            self._ended(_lost(f"the runner of attempt {self.number} died without a word{_how(params.get('status'))}"))
        elif method == "failed":
            self._ended(Lost("failed", _error(params.get("error"))))
        else:
            raise Unsupported(f"a kernel has no method {method[:50]!r} for agents", reason="METHOD_UNKNOWN")
        return {}

    async def _hello(self, link: RemoteLink, params: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"seq": self.mirror.seq, "pace_s": self._pace()}
        if params.get("started") is not True:
            if self.mirror.seq > 0:
                raise not_live(self.number)  # another agent has begun this attempt
            spec = self._spec or await self._make_spec()
            answer["spec"] = {**spec, "paused": self.paused, "confine": spec.get("confine") or {}}
            answer["checkpoint_bytes"] = await asyncio.to_thread(self.mirror.checkpoint_size)
            held = await asyncio.to_thread(self.rundir.outstanding, self.number - 1)
            answer["held"] = [{"resource_id": key, **value} for key, value in held.items()]
        elif self._spec is not None:
            self._spec = None  # it runs: its secrets are needed here no more
        if self._link is not None:
            self._link.close()
        self._link = self._peer = link
        self._heard = self._clock.monotonic()
        self._changed.set()
        asyncio.get_running_loop().call_soon(self._attached, {})
        log.info("agent_connected", job=self.job_id, attempt=self.number, seq=self.mirror.seq)
        return answer

    async def _records(self, params: Mapping[str, Any]) -> dict[str, Any]:
        records = params.get("records")
        if not isinstance(records, list):
            raise InvalidArgument("records must be a list", reason="RECORD_INVALID")
        before = self.mirror.seq
        seq = await asyncio.to_thread(self.mirror.append, records)
        for record in records:
            if record["seq"] > before:
                self._on_notification("record", record)
        return {"seq": seq}

    def _ended(self, end: Lost) -> None:
        self._end = end
        self._changed.set()


_WORK: set[asyncio.Task[None]] = set()
"""What is told an executor in the background; the loop itself keeps only weak references to tasks."""


def _lost(text: str) -> Lost:
    return Lost("lost", Unavailable(text, reason="RUNNER_LOST"))


def _how(status: Any) -> str:
    if not isinstance(status, int):
        return ""
    return f", by signal {-status}" if status < 0 else f", with exit status {status}"


def _error(data: Any) -> HyperError:
    from hypersdk.errors import from_json

    if isinstance(data, dict):
        return from_json(data)
    return FailedPrecondition("the agent could not start the runner, and did not say why", reason="RUNNER_LOST")
