"""Job groups: submitted whole, followed and cancelled together.

The group's row and its jobs are written in one transaction. Its state is that of its jobs, and is kept nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypersdk_kernel.engine.background import Background
from hypersdk_kernel.engine.dependencies import ENDINGS
from hypersdk_kernel.engine.documents import Documents, Kind
from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.engine.submission import Submission, invalid
from hypersdk_kernel.model.dependency import Dependency, Need
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.group import Edge, JobGroup, Member, OnFailure
from hypersdk_kernel.model.job import Job, NewJob
from hypersdk_kernel.store import codec
from hypersdk_kernel.store import documents as documents_rows
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey, once


def _decode(data: Mapping[str, Any]) -> JobGroup:
    members = tuple(
        Member(m["key"], tuple(Edge(e["key"], Need(e["need"]), e["condition"]) for e in m["after"]))
        for m in data["members"]
    )
    names = {f.name for f in dataclasses.fields(JobGroup)} - {"members", "on_failure"}
    kept = {key: value for key, value in data.items() if key in names}
    return JobGroup(members=members, on_failure=OnFailure(data["on_failure"]), **kept)


def _stamp(group: JobGroup, create_time: float, update_time: float, revision: int) -> JobGroup:
    return replace(group, create_time=create_time, update_time=update_time, revision=revision)


GROUPS: Kind[JobGroup] = Kind(
    "job_group", "jobGroups", missing_reason="JOB_GROUP_NOT_FOUND", twin_reason="JOB_GROUP_EXISTS",
    encode=dataclasses.asdict, decode=_decode, stamp=_stamp,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group with how its jobs fare: by state, and, unless it was only listed, the jobs by key."""

    group: JobGroup
    counts: Mapping[str, int]
    jobs: Mapping[str, Job]


class JobGroups:
    """Its life: calls; `start` after the dispatcher's; `notice` on every commit; `stop`."""

    def __init__(self, store: Store, jobs: Jobs, submission: Submission) -> None:
        self._store = store
        self._jobs = jobs
        self._submission = submission
        self._documents = Documents(store, GROUPS)
        self._background = Background()
        self._active = False

    async def create(
        self,
        group: JobGroup,
        news: Sequence[NewJob],
        *,
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> GroupView:
        """`news` in the order of the members; their ids and dependencies within the group are set here. Raises as
        Submission; InvalidArgument (MEMBER_UNKNOWN), AlreadyExists (JOB_GROUP_EXISTS)."""
        keys = {member.key for member in group.members}
        if len(keys) != len(group.members):
            raise invalid("job_group.members", "two of them have the same key", "VALUE_INVALID")
        placed = []
        for n, (member, new) in enumerate(zip(group.members, news, strict=True)):
            for edge in member.after:
                if edge.key not in keys:
                    raise invalid(f"job_group.members[{n}].after", f"no member has key {edge.key!r}", "MEMBER_UNKNOWN")
            within = tuple(Dependency(group.job_id(e.key), e.need, e.condition) for e in member.after)
            placed.append(
                replace(new, id=group.job_id(member.key), group=group.id, dependencies=(*new.dependencies, *within))
            )
        self._submission.check_batch(placed)
        drafts = [await self._submission.draft(new, actor) for new in placed]
        if validate_only:
            return GroupView(group, {}, {m.key: d.job for m, d in zip(group.members, drafts, strict=True)})

        def write(tx: Tx) -> JobGroup:
            self._documents.refuse_twin(documents_rows.get(tx.conn, GROUPS.noun, group.id), group)
            made = _stamp(group, tx.now, tx.now, tx.new_revision())
            document = documents_rows.Document(GROUPS.noun, made.id, tx.now, made.revision, dataclasses.asdict(made))
            documents_rows.add(tx.conn, document)
            tx.emit("job_group.created", made.name, actor, {"members": len(made.members)}, revision=made.revision)
            self._submission.write(tx, drafts, actor)
            return made

        made = await self._store.write(lambda tx: once(tx, key, dataclasses.asdict, _decode, lambda: write(tx)))
        view = await self.get(made.id)
        self._jobs.taken_in(list(view.jobs.values()))
        return view

    async def get(self, group_id: str) -> GroupView:
        """Raises NotFound (JOB_GROUP_NOT_FOUND)."""
        group = await self._documents.get(group_id)
        found = {job.id: job for job in await self._store.read(lambda conn: rows.in_group(conn, group_id))}
        jobs = {m.key: found[group.job_id(m.key)] for m in group.members if group.job_id(m.key) in found}
        counts: dict[str, int] = {}
        for job in found.values():
            counts[job.state.value] = counts.get(job.state.value, 0) + 1
        return GroupView(group, counts, jobs)

    async def page(self, limit: int, after: tuple[float, str] | None) -> list[GroupView]:
        """Newest first, without their jobs."""
        groups = await self._documents.page(limit, after)
        counts = await self._store.read(lambda conn: rows.group_counts(conn, [group.id for group in groups]))
        return [GroupView(group, counts[group.id], {}) for group in groups]

    async def cancel(self, group_id: str, *, actor: str, validate_only: bool = False) -> GroupView:
        """Asks every job that has not ended to stop. Raises NotFound (JOB_GROUP_NOT_FOUND)."""
        view = await self.get(group_id)
        for job in view.jobs.values():
            if not job.terminal:
                await self._jobs.cancel(job.id, actor=actor, validate_only=validate_only)
        return await self.get(group_id)

    async def start(self) -> None:
        """What an earlier kernel left to do: groups of which a job failed while the rest still goes on."""
        self._active = True
        for group_id in await self._store.read(rows.groups_to_settle):
            self._background.persist(f"jobGroups/{group_id}", lambda i=group_id: self._propagate(i))  # type: ignore[misc]

    def notice(self, events: list[Event]) -> None:
        """Store.on_commit: carry out what a group says of its failures."""
        if not self._active:
            return  # the leader's business
        for event in events:
            if event.type in ENDINGS and event.type != "job.succeeded":
                job = codec.job_of(event.payload)
                if job is not None and job.group:
                    self._background.persist(f"jobGroups/{job.group}", lambda i=job.group: self._propagate(i))  # type: ignore[misc]

    async def stop(self) -> None:
        self._active = False
        await self._background.stop()

    async def _propagate(self, group_id: str) -> None:
        view = await self.get(group_id)
        if view.group.on_failure is not OnFailure.CANCEL_REST:
            return
        if not view.counts.get("failed") and not view.counts.get("cancelled"):
            return
        for job in view.jobs.values():
            if not job.terminal and not job.cancel_requested:
                await self._jobs.cancel(job.id, actor="kernel")
