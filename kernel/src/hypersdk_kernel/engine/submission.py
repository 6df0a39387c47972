"""Submission: from what a client asks for to jobs in the store, one or a thousand in one transaction.

Not here: request ids and what happens afterwards (jobs, groups).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from hypersdk.errors import AlreadyExists, FieldViolation, InvalidArgument, NotFound

from hypersdk_kernel.engine import taskspec
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.gates import Gate, Hold
from hypersdk_kernel.engine.transitions import announce
from hypersdk_kernel.engine.windows import WindowBook
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.dependency import check_acyclic, compile_condition
from hypersdk_kernel.model.job import Job, JobState, NewJob, numbered
from hypersdk_kernel.model.names import check_id
from hypersdk_kernel.model.randomness import new_uuid
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Tx

LOCAL = "local"
"""The executor that every kernel has: processes of its own machine."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A job that passed every check, and the ids of the connections it names."""

    job: Job
    connection_ids: frozenset[str]


class Submission:
    """Checks and writes new jobs."""

    def __init__(
        self,
        clock: Clock,
        registry: taskspec.Components,
        connections: Connections,
        windows: WindowBook,
        gates: Sequence[Gate],
        check_open: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._connections = connections
        self._windows = windows
        self._gates = gates
        self._check_open = check_open

    async def draft(self, new: NewJob, actor: str) -> Draft:
        """Everything that can be known before the job runs. Raises InvalidArgument (TASK_UNKNOWN, SPEC_INVALID,
        CONNECTION_UNKNOWN, FORMAT_UNKNOWN, ID_INVALID, WINDOW_UNKNOWN, EXECUTOR_UNKNOWN, VALUE_INVALID,
        FILTER_INVALID, CARBON_SOURCE_UNKNOWN), Unavailable (MAINTENANCE)."""
        self._check_open()
        check_id(new.id, "job_id")
        connection_ids = await self._check_spec(new)
        if new.window and not await self._windows.known(new.window):
            raise invalid("job.window", f"windows/{new.window} does not exist", "WINDOW_UNKNOWN")
        self._check_policy(new)
        now = self._clock.now()
        job = Job(
            id=new.id,
            uid=new_uuid(),
            task=new.task,
            spec=dict(new.spec),
            state=JobState.QUEUED,
            create_time=now,
            update_time=now,
            display_name=new.display_name,
            labels=dict(new.labels),
            priority=new.priority,
            retry=new.retry,
            bandwidth_limit_bytes=new.bandwidth_limit_bytes,
            owner=actor,
            dependencies=new.dependencies,
            unmet=new.unmet,
            group=new.group,
            not_before=new.not_before,
            deadline=new.deadline,
            max_run_s=new.max_run_s,
            window=new.window,
            executor=new.executor,
            placement=dict(new.placement),
            trace_parent=new.trace_parent,
            schedule=new.schedule,
            scheduled_time=new.scheduled_time,
            delay=new.delay,
        )
        return Draft(self._placed(job, now), frozenset(connection_ids))

    def write(
        self, tx: Tx, drafts: Iterable[Draft], actor: str, beside: Callable[[Tx, Job], Job] | None = None
    ) -> list[Job]:
        """Add them, all or none. `beside` returns the job to add, or raises and undoes all. Raises AlreadyExists
        (JOB_EXISTS), InvalidArgument (DEPENDENCY_UNKNOWN)."""
        made = []
        for draft in drafts:
            if rows.taken(tx, draft.job.id):
                raise exists(draft.job.name)
            job = numbered(draft.job if beside is None else beside(tx, draft.job), tx.new_revision())
            rows.add(tx, job, draft.connection_ids)
            announce(tx, job, "job.created", actor)
            made.append(job)
        for job in made:
            for n, dependency in enumerate(job.dependencies):
                if not rows.taken(tx, dependency.job_id):
                    raise invalid(
                        f"job.dependencies[{n}].job", f"jobs/{dependency.job_id} does not exist", "DEPENDENCY_UNKNOWN"
                    )
        return made

    @staticmethod
    def check_batch(news: Sequence[NewJob]) -> None:
        """Raises InvalidArgument (DEPENDENCY_CYCLE; VALUE_INVALID when an id comes twice)."""
        edges = {new.id: [d.job_id for d in new.dependencies] for new in news}
        if len(edges) != len(news):
            raise invalid("requests", "two of them have the same job_id", "VALUE_INVALID")
        check_acyclic(edges)

    def _placed(self, job: Job, now: float) -> Job:
        """WAITING with the reason where a gate holds it, so that it is not written twice. What it depends on may come
        with the same transaction, so that is judged afterwards."""
        if job.dependencies:
            return replace(job, state=JobState.WAITING, state_message="it waits for other jobs to end")
        for gate in self._gates:
            verdict = gate.judge(job, now)
            if isinstance(verdict, Hold):
                return replace(
                    job, state=JobState.WAITING, state_message=verdict.message, next_attempt_time=verdict.until
                )
        return job

    async def _check_spec(self, new: NewJob) -> set[str]:
        try:
            task = self._registry.component(f"task/{new.task}")
        except NotFound as exc:
            raise invalid("job.task", exc.message, "TASK_UNKNOWN") from exc
        schema = task.manifest.spec_schema
        taskspec.validate(schema, dict(new.spec), "job.spec", f"the spec of task {new.task} is wrong")
        needs = taskspec.needs(schema, new.spec)
        components = await self._connections.components(needs.connections)
        missing = {i: field for i, field in needs.connections.items() if i not in components}
        if missing:
            raise InvalidArgument(
                f"there is no connection {', '.join(sorted(missing))}; create it first (`hyperctl connection create`)",
                reason="CONNECTION_UNKNOWN",
                violations=tuple(FieldViolation(f, f"connections/{i} does not exist") for i, f in missing.items()),
            )
        taskspec.named(self._registry, task, set(components.values()), needs.formats)
        return set(needs.connections)

    def _check_policy(self, new: NewJob) -> None:
        for n, dependency in enumerate(new.dependencies):
            if dependency.job_id == new.id:
                raise invalid(f"job.dependencies[{n}].job", "it cannot wait for itself", "DEPENDENCY_CYCLE")
            if dependency.condition:
                compile_condition(dependency.condition)
        if new.executor != LOCAL:
            try:
                self._registry.component(f"executor/{new.executor}")
            except NotFound as exc:
                raise invalid("job.executor", exc.message, "EXECUTOR_UNKNOWN") from exc
        if new.delay is not None:
            try:
                self._registry.component(f"carbon/{new.delay.source}")
            except NotFound as exc:
                raise invalid("job.delay.source", exc.message, "CARBON_SOURCE_UNKNOWN") from exc
        if new.deadline is not None:
            if new.deadline <= self._clock.now():
                raise invalid("job.deadline", "is in the past", "VALUE_INVALID")
            if new.not_before is not None and new.not_before >= new.deadline:
                raise invalid("job.deadline", "is not after earliest_start_time", "VALUE_INVALID")


def exists(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"{name} exists already; choose another job_id, or none", reason="JOB_EXISTS", metadata={"name": name}
    )


def invalid(field: str, rule: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {rule}", reason=reason, violations=(FieldViolation(field, rule),))
