"""The gate of dependencies: a job waits until others have ended as it needs them to.

Who waits for whom is kept by the job waited for, so that an end costs as much as it has dependents, whatever else
waits. After a restart the jobs are judged anew and enter themselves again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from hypersdk.errors import FailedPrecondition

from hypersdk_kernel.engine.gates import Doom, Hold, Reconsider
from hypersdk_kernel.model.dependency import Dependency, Unmet, Verdict, judge
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobEvent

ENDINGS = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
"""Events that end a job."""
_NAMED = 5
"""So many of the jobs waited for are named in the message."""


class DependencyGate:
    """A Gate. `lookup` gives a job by id, or None."""

    def __init__(self, lookup: Callable[[str], Job | None], reconsider: Reconsider) -> None:
        self._lookup = lookup
        self._reconsider = reconsider
        self._waiters: defaultdict[str, set[str]] = defaultdict(set)
        self._awaited: dict[str, tuple[str, ...]] = {}

    def judge(self, job: Job, _now: float, /) -> Hold | Doom | None:
        if not job.dependencies:
            return None
        waiting: list[Dependency] = []
        for dependency in job.dependencies:
            found = self._lookup(dependency.job_id)
            verdict = judge(dependency, found)
            if verdict is Verdict.WAIT:
                waiting.append(dependency)
            elif verdict is Verdict.UNMET and job.unmet is not Unmet.RUN:
                return _doom(job, dependency, found)
        self._enter(job.id, tuple(d.job_id for d in waiting))
        if not waiting:
            return None
        names = ", ".join(f"jobs/{d.job_id}" for d in waiting[:_NAMED])
        more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
        return Hold(
            "DEPENDENCY",
            f"it waits for {names}{more} to have {waiting[0].need.value if len(waiting) == 1 else 'ended as it needs'}",
            None,
            f"let {names} end, or cancel this job and submit it without the dependency",
        )

    def forget(self, job_id: str) -> None:
        self._enter(job_id, ())

    def notice(self, events: list[Event]) -> None:
        """Store.on_commit: have those looked at that wait for a job which has ended."""
        for event in events:
            if event.type in ENDINGS:
                waiters = self._waiters.pop(event.subject.removeprefix("jobs/"), None)
                if waiters:
                    self._reconsider(sorted(waiters))

    def _enter(self, job_id: str, awaited: tuple[str, ...]) -> None:
        for upstream in self._awaited.pop(job_id, ()):
            waiters = self._waiters.get(upstream)
            if waiters is not None:
                waiters.discard(job_id)
                if not waiters:
                    del self._waiters[upstream]
        if awaited:
            self._awaited[job_id] = awaited
            for upstream in awaited:
                self._waiters[upstream].add(job_id)


def _doom(job: Job, dependency: Dependency, found: Job | None) -> Doom:
    how = "is not there any more" if found is None else f"ended as {found.state.value}"
    wanted = f" with {dependency.condition}" if dependency.condition else ""
    error = FailedPrecondition(
        f"{job.name} needs jobs/{dependency.job_id} to have {dependency.need.value}{wanted}, and it {how}",
        reason="DEPENDENCY_UNMET",
        metadata={"job": f"jobs/{dependency.job_id}"},
    )
    return Doom(JobEvent.FAIL if job.unmet is Unmet.FAIL else JobEvent.CANCEL, error)
