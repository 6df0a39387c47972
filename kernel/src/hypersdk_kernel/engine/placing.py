"""Where attempts run: `local` in a process of this machine, else by an executor on another one.

Not here: starting, following and ending them, which is the same for both (dispatcher).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypersdk.errors import FailedPrecondition

from hypersdk_kernel.engine.prepare import Preparer
from hypersdk_kernel.engine.remoterunner import RemoteSettings
from hypersdk_kernel.engine.remotes import Remotes
from hypersdk_kernel.engine.runner import Runner
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.engine.submission import LOCAL
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Attempt, Job, JobState, Progress


class Placing:
    """`remotes` is None where the daemon does not listen for remote runners."""

    def __init__(self, preparer: Preparer, clock: Clock, settings: RunnerSettings) -> None:
        self.remotes: Remotes | None = None
        self._preparer = preparer
        self._clock = clock
        self._settings = settings

    def began(self) -> None:
        if self.remotes is not None:
            self.remotes.began()

    def ended(self) -> None:
        if self.remotes is not None:
            self.remotes.ended()

    def place(self, job: Job) -> str:
        """Attempt.place of an attempt that starts now."""
        place = self._settings.place
        return place if job.executor == LOCAL else f"executor/{job.executor}@{place}"

    def reached(self, job: Job, attempt: Attempt) -> bool:
        """Can this kernel take up an attempt that an earlier one started?"""
        if job.executor != LOCAL and self.remotes is None:
            return False
        return attempt.place in {"", self.place(job)}

    def lost_after_s(self, job: Job) -> float:
        """By then the runner of an attempt that cannot be reached has ended itself."""
        if job.executor == LOCAL:
            return self._settings.lost_after_s
        settings = RemoteSettings() if self.remotes is None else self.remotes.settings
        return max(settings.lost_after_s, self._settings.lost_after_s)

    def check(self, job: Job) -> None:
        """Raises FailedPrecondition (EXECUTORS_OFF)."""
        if job.executor != LOCAL and self.remotes is None:
            raise FailedPrecondition(
                f"{job.name} is to run by executor/{job.executor}, but this daemon does not listen for remote runners; "
                "set runner_port (docs/scaling.md)",
                reason="EXECUTORS_OFF",
            )

    def runner(self, job: Job, number: int, tell: Callable[[Progress], None]) -> Runner:
        rundir = self._preparer.rundir(job.uid)
        if job.executor == LOCAL:
            return Runner(
                job.id, number, rundir, self._clock, paused=job.state is JobState.PAUSED,
                bandwidth_limit=job.bandwidth_limit_bytes, on_progress=tell,
            )  # fmt: skip
        self.check(job)
        assert self.remotes is not None

        async def make_spec() -> dict[str, Any]:
            return (await self._preparer.spec(job)) | self.own_fields(job, number)

        return self.remotes.runner(job, number, rundir, make_spec, tell)

    def own_fields(self, job: Job, number: int) -> dict[str, Any]:
        """Of a runner's spec: what belongs to the attempt."""
        folder = self._preparer.rundir(job.uid).attempt(number)
        own = {"attempt": number, "attempt_dir": str(folder), **self._settings.of_runner()}
        return {**own, **self._settings.trace(job, number)}
