"""The gate of dependencies: a job waits until others have ended as it needs them to.

Who waits for whom is kept by the job waited for, so that an end costs as much as it has dependents, whatever else
waits. After a restart the jobs are judged anew and enter themselves again.

How the jobs waited for are is in memory, or in a database at hand. Where it takes a server, the job is held while that
is asked, and what it said is kept until an end changes it or the waiting job is forgotten or ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from hypersdk.errors import FailedPrecondition

from hypersdk_kernel.engine.background import Persist
from hypersdk_kernel.engine.gates import Doom, Hold, NotAtHand, Reconsider
from hypersdk_kernel.model.dependency import Dependency, Unmet, Verdict, judge
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobEvent

ENDINGS = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
"""Events that end a job."""
_NAMED = 5
"""So many of the jobs waited for are named in the message."""


class DependencyGate:
    """A Gate. `lookup` gives a job by id, or None, or raises NotAtHand; `fetch` gives those of many that there are."""

    def __init__(
        self,
        lookup: Callable[[str], Job | None],
        fetch: Callable[[Sequence[str]], Awaitable[Mapping[str, Job]]],
        persist: Persist,
        reconsider: Reconsider,
    ) -> None:
        self._lookup = lookup
        self._fetch = fetch
        self._persist = persist
        self._reconsider = reconsider
        self._waiters: defaultdict[str, set[str]] = defaultdict(set)
        self._awaited: dict[str, tuple[str, ...]] = {}
        self._asking: dict[str, object] = {}
        self._fetched: dict[str, Mapping[str, Job]] = {}
        """By the job that waits: what the store said of those that were not in memory."""

    def judge(self, job: Job, _now: float, /) -> Hold | Doom | None:
        if not job.dependencies:
            return None
        known = self._known(job)
        if known is None:
            return Hold("DEPENDENCY", "the store is being asked how the jobs are that it waits for", None, "wait")
        waiting: list[Dependency] = []
        for dependency in job.dependencies:
            found = known[dependency.job_id]
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
        self._unlearn(job_id)

    def notice(self, events: list[Event]) -> None:
        """Store.on_commit: have those looked at that wait for a job which has ended."""
        for event in events:
            if event.type in ENDINGS:
                job_id = event.subject.removeprefix("jobs/")
                self._unlearn(job_id)
                waiters = self._waiters.pop(job_id, None)
                if waiters:
                    for waiter in waiters:
                        self._unlearn(waiter)
                    self._reconsider(sorted(waiters))

    def _known(self, job: Job) -> dict[str, Job | None] | None:
        """How those are that `job` waits for; None: it is being asked."""
        known: dict[str, Job | None] = {}
        for dependency in job.dependencies:
            try:
                known[dependency.job_id] = self._lookup(dependency.job_id)
            except NotAtHand:
                fetched = self._fetched.get(job.id)
                if fetched is None:
                    self._ask(job)
                    return None
                known[dependency.job_id] = fetched.get(dependency.job_id)
        return known

    def _ask(self, job: Job) -> None:
        wanted = tuple(d.job_id for d in job.dependencies)
        self._enter(job.id, wanted)  # an end that comes while we ask makes the answer void
        token = self._asking[job.id] = object()

        async def ask() -> None:
            if self._asking.get(job.id) is not token:
                return
            found = await self._fetch(wanted)
            if self._asking.get(job.id) is token:
                del self._asking[job.id]
                self._fetched[job.id] = found
                self._reconsider([job.id])

        self._persist(job.name, ask)

    def _unlearn(self, job_id: str) -> None:
        self._asking.pop(job_id, None)
        self._fetched.pop(job_id, None)

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
