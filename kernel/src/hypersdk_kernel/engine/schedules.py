"""Schedules: what clients ask of schedules. The clock loop (scheduler) hears of every change by its event."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypersdk.errors import Aborted, AlreadyExists, FieldViolation, InvalidArgument, NotFound
from sqlalchemy import ColumnElement

from hypersdk_kernel.engine.firing import Firing
from hypersdk_kernel.model import timing
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job
from hypersdk_kernel.model.names import check_id
from hypersdk_kernel.model.schedule import MAX_CATCH_UP, Schedule, Status, advanced, start_time
from hypersdk_kernel.model.template import check_variables
from hypersdk_kernel.store import codec
from hypersdk_kernel.store import schedules as rows
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey, once, recall

UPDATABLE = frozenset(
    {"display_name", "labels", "timing", "template", "variables", "jitter_s", "missed", "catch_up_limit",
     "missed_after_s", "overlap", "job_deadline_s"}
)  # fmt: skip
_CODEC = (codec.schedule_to_json, codec.schedule_from_json)


class Schedules:
    """`actor` is who asks; `key` makes a repeated request harmless; an `etag` that is another is refused."""

    def __init__(self, store: Store, clock: Clock, firing: Firing) -> None:
        self._store = store
        self._clock = clock
        self._firing = firing

    async def create(
        self,
        schedule_id: str,
        values: Mapping[str, Any],
        *,
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Schedule:
        """`values`: by the names of UPDATABLE, `timing` and `template` at least. Raises AlreadyExists
        (SCHEDULE_EXISTS), InvalidArgument (SCHEDULE_INVALID, ID_INVALID, and what the job would be refused for)."""
        check_id(schedule_id, "schedule_id")
        new = await self._checked(self.draft(schedule_id, values, actor), actor)

        def change(tx: Tx) -> Schedule:
            if rows.get(tx.conn, schedule_id) is not None:
                raise _exists(new.name)
            made = replace(new, revision=tx.new_revision())
            rows.add(tx.conn, made)
            _announce(tx, made, "schedule.created", actor)
            return made

        if validate_only:
            if await self._store.read(lambda conn: rows.get(conn, schedule_id)) is not None:
                raise _exists(new.name)
            return new
        return await self._store.write(lambda tx: once(tx, key, *_CODEC, lambda: change(tx)))

    def draft(self, schedule_id: str, values: Mapping[str, Any], actor: str) -> Schedule:
        """A schedule that is nowhere yet, its fields checked. Raises InvalidArgument (SCHEDULE_INVALID)."""
        now = self._clock.now()
        given = replace(values["timing"], anchor=float(math.floor(now)))
        made = Schedule(
            id=schedule_id, uid=str(uuid.uuid4()), owner=actor, create_time=now, update_time=now,
            status=Status(cursor=now), **{**values, "timing": given},
        )  # fmt: skip
        _check_fields(made)
        return advanced(made, now)

    async def get(self, schedule_id: str) -> Schedule:
        """Raises NotFound (SCHEDULE_NOT_FOUND)."""
        found = await self._store.near(lambda conn: rows.get(conn, schedule_id))
        if found is None:
            raise _not_found(schedule_id)
        return found

    async def page(self, limit: int, after: str, where: ColumnElement[bool] | None = None) -> list[Schedule]:
        """Up to `limit` with an id above `after`, in order of id."""
        return await self._store.read(lambda conn: rows.page(conn, limit, after, where))

    async def update(
        self,
        schedule_id: str,
        changes: Mapping[str, Any],
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Schedule:
        """New values by the names of UPDATABLE. A new timing counts from now on: it makes up for nothing."""
        wanted = _changed(await self.get(schedule_id), changes, self._clock.now())
        await self._checked(wanted, actor, must_run="timing" in changes)

        def change(tx: Tx) -> Schedule:
            new = _changed(_load(tx, schedule_id, etag), changes, tx.now)
            new = replace(new, update_time=tx.now, revision=tx.new_revision())
            rows.save(tx.conn, new)
            _announce(tx, new, "schedule.updated", actor)
            return new

        if validate_only:
            await self._store.read(lambda conn: _etag(rows.get(conn, schedule_id), schedule_id, etag))
            return wanted
        return await self._store.write(lambda tx: once(tx, key, *_CODEC, lambda: change(tx)))

    async def delete(
        self,
        schedule_id: str,
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> None:
        """Its jobs stay, and go on."""

        def change(tx: Tx) -> Schedule:
            old = _load(tx, schedule_id, etag)
            if not validate_only:
                rows.remove(tx.conn, schedule_id)
                tx.emit("schedule.deleted", old.name, actor, {})
            return old

        await self._store.write(lambda tx: once(tx, None if validate_only else key, *_CODEC, lambda: change(tx)))

    async def pause(self, schedule_id: str, reason: str, **asked: Any) -> Schedule:
        """No occurrence counts until it is resumed."""

        def paused(old: Schedule, _now: float) -> Schedule:
            return advanced(replace(old, paused=True, pause_reason=reason), old.status.cursor)

        return await self._switch(schedule_id, "schedule.paused", paused, **asked)

    async def resume(self, schedule_id: str, **asked: Any) -> Schedule:
        """Occurrences count again, from now on: those during the pause are not made up for."""

        def resumed(old: Schedule, now: float) -> Schedule:
            return advanced(replace(old, paused=False, pause_reason=""), now) if old.paused else old

        return await self._switch(schedule_id, "schedule.resumed", resumed, **asked)

    async def run(
        self, schedule_id: str, *, actor: str, key: RequestKey | None = None, validate_only: bool = False
    ) -> Job:
        """A job now, beside the timetable, paused or not. Raises FailedPrecondition (SCHEDULE_RUNNING)."""
        if not validate_only:
            known = await self._store.read(lambda conn: recall(conn, key, self._clock.now()))
            if known is not None:  # before a run that replaces others cancels the very one it had made
                return codec.job_from_json(known)
        schedule = await self.get(schedule_id)
        now = round(self._clock.now(), 3)
        if validate_only:
            return await self._firing.check(schedule, now, actor)
        return await self._firing.run(schedule, now, actor, key)

    async def preview(self, schedule: Schedule, after: float | None, count: int) -> list[tuple[float, float]]:
        """The next `count` occurrences and, with jitter, when each would start. After the last one dealt with, or
        after `after`."""
        begin = max(self._clock.now(), schedule.status.cursor) if after is None else after

        def walk() -> list[tuple[float, float]]:  # in a thread: what matches every 50 years takes 20 ms a time to find
            moments = zip(range(count), schedule.timing.iterate(begin), strict=False)
            return [(moment, start_time(schedule, moment)) for _, moment in moments]

        return await asyncio.to_thread(walk)

    async def _switch(
        self,
        schedule_id: str,
        event_type: str,
        to: Callable[[Schedule, float], Schedule],
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Schedule:
        def change(tx: Tx) -> Schedule:
            old = _load(tx, schedule_id, etag)
            new = to(old, tx.now)
            if new is old or validate_only:
                return new
            new = replace(new, update_time=tx.now, revision=tx.new_revision())
            rows.save(tx.conn, new)
            _announce(tx, new, event_type, actor)
            return new

        return await self._store.write(lambda tx: once(tx, None if validate_only else key, *_CODEC, lambda: change(tx)))

    async def _checked(self, schedule: Schedule, actor: str, *, must_run: bool = True) -> Schedule:
        _check_fields(schedule)
        following = schedule.timing.next_after(max(self._clock.now(), schedule.status.cursor))
        if following is None and must_run:
            raise timing.invalid("schedule", "would never run: there is no such time to come within its bounds")
        await self._firing.check(schedule, self._clock.now() if following is None else following, actor)
        return schedule


def _check_fields(schedule: Schedule) -> None:
    timing.check(schedule.timing)
    check_variables(schedule.variables)
    if not 1 <= schedule.catch_up_limit <= MAX_CATCH_UP:
        raise timing.invalid("schedule.missed_run_policy.catch_up_limit", f"must be 1 to {MAX_CATCH_UP}")


def _changed(old: Schedule, changes: Mapping[str, Any], now: float) -> Schedule:
    unknown = changes.keys() - UPDATABLE
    if unknown:
        listed = ", ".join(sorted(unknown))
        raise InvalidArgument(
            f"cannot update {listed}",
            reason="FIELD_IMMUTABLE",
            violations=tuple(FieldViolation(f"schedule.{name}", "cannot change") for name in sorted(unknown)),
        )
    new = replace(old, **changes)
    given = replace(new.timing, anchor=old.timing.anchor)
    if given == old.timing:
        return advanced(replace(new, timing=given), old.status.cursor)
    return advanced(replace(new, timing=replace(given, anchor=float(math.floor(now)))), now)


def _announce(tx: Tx, schedule: Schedule, event_type: str, actor: str) -> None:
    payload = {"schedule": codec.schedule_to_json(schedule), "next_start_time": schedule.status.next_start_time}
    tx.emit(event_type, schedule.name, actor, payload, revision=schedule.revision)


def _load(tx: Tx, schedule_id: str, etag: str) -> Schedule:
    return _etag(rows.get(tx.conn, schedule_id), schedule_id, etag)


def _etag(found: Schedule | None, schedule_id: str, etag: str) -> Schedule:
    if found is None:
        raise _not_found(schedule_id)
    if etag and etag != found.etag:
        raise Aborted(
            f"{found.name} has changed since it was read; read it again and decide anew",
            reason="ETAG_MISMATCH",
            metadata={"etag": found.etag},
        )
    return found


def _not_found(schedule_id: str) -> NotFound:
    return NotFound(
        f"there is no schedule schedules/{schedule_id}; `hyperctl schedule list` shows those there are",
        reason="SCHEDULE_NOT_FOUND",
        metadata={"name": f"schedules/{schedule_id}"},
    )


def _exists(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"{name} exists already; choose another id, or update it", reason="SCHEDULE_EXISTS", metadata={"name": name}
    )
