"""Job groups: submitted whole, followed and cancelled together.

The group's row and its jobs are written in one transaction. Its state is that of its jobs, and is kept nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def _view(group: JobGroup, found: Iterable[Job]) -> GroupView:
    """`found`: those of its jobs that there are."""
    by_id = {job.id: job for job in found}
    jobs = {m.key: by_id[group.job_id(m.key)] for m in group.members if group.job_id(m.key) in by_id}
    return GroupView(group, Counter(job.state.value for job in by_id.values()), jobs)


def _view_to_json(view: GroupView) -> dict[str, Any]:
    return {"group": dataclasses.asdict(view.group), "jobs": [codec.job_to_json(job) for job in view.jobs.values()]}


def _view_from_json(data: Mapping[str, Any]) -> GroupView:
    return _view(_decode(data["group"]), map(codec.job_from_json, data["jobs"]))


_VIEW_CODEC = (_view_to_json, _view_from_json)


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

        def write(tx: Tx) -> GroupView:
            self._documents.refuse_twin(documents_rows.get(tx.conn, GROUPS.noun, group.id), group)
            made = _stamp(group, tx.now, tx.now, tx.new_revision())
            document = documents_rows.Document(GROUPS.noun, made.id, tx.now, made.revision, dataclasses.asdict(made))
            documents_rows.add(tx.conn, document)
            tx.emit("job_group.created", made.name, actor, {"members": len(made.members)}, revision=made.revision)
            return _view(made, self._submission.write(tx, drafts, actor))

        view = await self._store.write(lambda tx: once(tx, key, *_VIEW_CODEC, lambda: write(tx)))
        made = list(view.jobs.values())
        if made[0].uid == drafts[0].job.uid:  # not the remembered answer of an earlier request
            self._jobs.taken_in(made)
        return view

    async def get(self, group_id: str) -> GroupView:
        """Raises NotFound (JOB_GROUP_NOT_FOUND)."""
        group = await self._documents.get(group_id)
        return _view(group, await self._store.read(lambda conn: rows.in_group(conn, group_id)))

    async def page(self, limit: int, after: tuple[float, str] | None) -> list[GroupView]:
        """Newest first, without their jobs."""
        groups = await self._documents.page(limit, after)
        counts = await self._store.read(lambda conn: rows.group_counts(conn, [group.id for group in groups]))
        return [GroupView(group, counts[group.id], {}) for group in groups]

    async def cancel(
        self, group_id: str, *, actor: str, key: RequestKey | None = None, validate_only: bool = False
    ) -> GroupView:
        """Asks every job that has not ended to stop, all in one transaction. Raises NotFound (JOB_GROUP_NOT_FOUND)."""
        if validate_only:
            return await self.get(group_id)

        def ask(tx: Tx) -> GroupView:
            found = documents_rows.get(tx.conn, GROUPS.noun, group_id)
            if found is None:
                raise self._documents.missing(group_id)
            jobs = rows.in_group(tx.conn, group_id)
            return _view(_decode(found.body), self._jobs.ask_to_stop(tx, jobs, actor))

        def write(tx: Tx) -> tuple[GroupView, list[Job]]:
            view = once(tx, key, *_VIEW_CODEC, lambda: ask(tx))
            now = {job.uid: job.revision for job in rows.in_group(tx.conn, group_id)}
            return view, [job for job in view.jobs.values() if now.get(job.uid) == job.revision]

        view, standing = await self._store.write(write)
        self._jobs.stop_asked(standing, actor)
        return view

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
