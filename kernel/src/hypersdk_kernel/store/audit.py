"""The audit trail: rows in a chain of hashes, appended in the transaction of what they tell of.

The last row's number and hash also stand in `audit_head`: it lets an append go on without reading the trail, and shows
when rows have been cut off its end. All rows of a group of writes are appended by three statements, so that auditing
costs no fsync and little else.

Who asks is known above, and what is written below: `current` carries the one to the other.

Nothing is removed but what is in an archive (`drop`, auditarchive): the last entry of that is the anchor, from which
the chain goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from hypersdk.auditchain import GENESIS, AuditEntry, chained
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, literal_column, select, update

from hypersdk_kernel.model.audit import AuditNote
from hypersdk_kernel.store import codec
from hypersdk_kernel.store.statements import Row, Statements
from hypersdk_kernel.store.tables import audit, audit_head
from hypersdk_kernel.store.transaction import Group

_HEAD = 1
_ANCHOR = 2
"""Rows of `audit_head`."""
_CHUNK = 1000


@dataclass(slots=True)
class AuditedCall:
    """A call that changes something. Its life: made when the call comes; the first write that is done for it appends
    its row and makes it `written`; `over` when the call has been answered, and nothing more is appended for it."""

    actor: str
    action: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict)
    written: bool = False
    over: bool = False

    def note(self, emitted: Sequence[tuple[str, str]]) -> AuditNote:
        """As it is written with the change. `emitted`: (type, subject) of the events of the write."""
        subject = self.subject or (emitted[0][1] if emitted else "")
        details = {**self.details, "events": [type_ for type_, _ in emitted]} if emitted else self.details
        return AuditNote(self.actor, self.action, subject, details=details)


current: ContextVar[AuditedCall | None] = ContextVar("audited_call", default=None)
"""The call for which the code that runs now writes."""


def reading_head(statements: Statements) -> tuple[str, None]:
    """What finds the `head` that `append` needs."""
    return statements.sql(_READ_HEAD), None


def append(group: Group, now: float, notes: Sequence[AuditNote], head: Sequence[Any]) -> None:
    """Put `notes` behind the last row, in order. `now`: seconds since the epoch."""
    last, head_seq, head_hash = head
    seq, previous = max(head_seq or 0, last or 0), head_hash or GENESIS
    for note in notes:
        seq += 1
        row = _row(seq, now, note, previous)
        previous = row["hash"]
        group.add(audit, row)
    if head_hash is None:
        group.add(audit_head, {"id": _HEAD, "seq": seq, "hash": previous})
    else:
        group.at_the_end(group.statements.sql(_WRITE_HEAD), {"new_seq": seq, "new_hash": previous})


_IS_HEAD = audit_head.c.id == literal_column(str(_HEAD))
_READ_HEAD = select(
    select(func.max(audit.c.seq)).scalar_subquery(),
    select(audit_head.c.seq).where(_IS_HEAD).scalar_subquery(),
    select(audit_head.c.hash).where(_IS_HEAD).scalar_subquery(),
)
_WRITE_HEAD = (
    update(audit_head)
    .where(audit_head.c.id == literal_column(str(_HEAD)))
    .values(seq=bindparam("new_seq"), hash=bindparam("new_hash"))
)


def head(conn: Connection) -> tuple[int, str]:
    """Number and hash of the last row; (0, GENESIS) when there is none."""
    return _noted(conn, _HEAD)


def anchor(conn: Connection) -> tuple[int, str]:
    """Number and hash of the last row that was archived and dropped; (0, GENESIS) when none was."""
    return _noted(conn, _ANCHOR)


def drop(conn: Connection, after: int, last: AuditEntry) -> bool:
    """Remove the rows behind the anchor, number `after`, up to `last`, which is the anchor from now on. False when the
    anchor is another by now, and nothing was done."""
    if anchor(conn)[0] != after:
        return False
    conn.execute(delete(audit).where(audit.c.seq > after, audit.c.seq <= last.seq))
    conn.execute(delete(audit_head).where(audit_head.c.id == _ANCHOR))
    conn.execute(insert(audit_head).values(id=_ANCHOR, seq=last.seq, hash=last.hash))
    return True


def _noted(conn: Connection, row: int) -> tuple[int, str]:
    found = conn.execute(select(audit_head.c.seq, audit_head.c.hash).where(audit_head.c.id == row)).one_or_none()
    return (0, GENESIS) if found is None else (found.seq, found.hash)


def page(
    conn: Connection,
    after_seq: int,
    limit: int = _CHUNK,
    where: ColumnElement[bool] | None = None,
    *,
    newest_first: bool = False,
) -> list[AuditEntry]:
    """Up to `limit` entries with a greater number (with `newest_first`: a smaller one, 0 meaning from the end)."""
    query = select(audit).limit(limit)
    if newest_first:
        query = query.order_by(audit.c.seq.desc())
        if after_seq:
            query = query.where(audit.c.seq < after_seq)
    else:
        query = query.where(audit.c.seq > after_seq).order_by(audit.c.seq)
    if where is not None:
        query = query.where(where)
    return [AuditEntry(**row._mapping) for row in conn.execute(query)]  # documented name  # noqa: SLF001


def _row(seq: int, now: float, note: AuditNote, previous: str) -> Row:
    """The entry's columns."""
    texts = {
        "actor": _text(note.actor, 128), "action": _text(note.action, 128), "subject": _text(note.subject, 512),
        "outcome": _text(note.outcome, 64), "details": _text(codec.dumps(dict(note.details)), 1 << 20),
    }  # fmt: skip
    return {
        "seq": seq, "time": now, **texts, "prev_hash": previous, "hash": chained(seq, now, texts.values(), previous)
    }  # fmt: skip


def _text(value: str, longest: int) -> str:
    """What every database keeps as it is: no NUL, no lone surrogates, no more than the column has room for."""
    if value.isascii() and "\0" not in value:
        return value[:longest]
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:longest]
