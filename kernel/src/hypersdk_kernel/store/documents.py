"""Documents: small resources that are only listed, read and replaced whole: windows, limits, job groups, settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from hypersdk_kernel.store import codec
from hypersdk_kernel.store.tables import documents


@dataclass(frozen=True, slots=True)
class Document:
    """`kind` and `id` name it. `create_time`: seconds since the epoch."""

    kind: str
    id: str
    create_time: float
    revision: int
    body: dict[str, Any]


def add(conn: Connection, document: Document) -> None:
    """Raises sqlalchemy IntegrityError when there is one of that name."""
    conn.execute(insert(documents).values(**_row(document)))


def save(conn: Connection, document: Document) -> None:
    conn.execute(update(documents).where(_named(document.kind, document.id)).values(**_row(document)))


def remove(conn: Connection, kind: str, document_id: str) -> None:
    conn.execute(delete(documents).where(_named(kind, document_id)))


def get(conn: Connection, kind: str, document_id: str) -> Document | None:
    row = conn.execute(select(documents).where(_named(kind, document_id))).one_or_none()
    return None if row is None else _document(row)


def every(conn: Connection, kind: str) -> list[Document]:
    """All of a kind, in order of id: for kinds of which there are few."""
    query = select(documents).where(documents.c.kind == kind).order_by(documents.c.id)
    return [_document(row) for row in conn.execute(query)]


def page(conn: Connection, kind: str, limit: int, after: tuple[float, str] | None = None) -> list[Document]:
    """Newest first, after the key (create time, id) of the last one of the page before."""
    query = select(documents).where(documents.c.kind == kind).limit(limit)
    if after is not None:
        created, document_id = after
        older = documents.c.create_time < created
        query = query.where(or_(older, and_(documents.c.create_time == created, documents.c.id < document_id)))
    query = query.order_by(documents.c.create_time.desc(), documents.c.id.desc())
    return [_document(row) for row in conn.execute(query)]


def _named(kind: str, document_id: str) -> Any:
    return and_(documents.c.kind == kind, documents.c.id == document_id)


def _document(row: Any) -> Document:
    return Document(row.kind, row.id, row.create_time, row.revision, json.loads(row.body))


def _row(document: Document) -> dict[str, object]:
    return {
        "kind": document.kind, "id": document.id, "create_time": document.create_time, "revision": document.revision,
        "body": codec.dumps(document.body),
    }  # fmt: skip
