"""Jobs by task and by label, newest first, so that a list of them costs the same whatever else there is."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_CHUNK = 1000


def upgrade() -> None:
    op.create_index("jobs_by_task", "jobs", ["task", "create_time", "id"])
    labels = op.create_table(
        "job_labels",
        sa.Column("key", sa.String(63), primary_key=True),
        sa.Column("value", sa.String(256), primary_key=True),
        sa.Column("create_time", sa.Float, primary_key=True),
        sa.Column("job_id", sa.String(63), primary_key=True),
    )
    jobs = sa.table("jobs", sa.column("id"), sa.column("labels", sa.JSON), sa.column("create_time"))
    after = ""
    while True:
        query = (
            sa.select(jobs.c.id, jobs.c.labels, jobs.c.create_time)
            .where(jobs.c.id > after)
            .order_by(jobs.c.id)
            .limit(_CHUNK)
        )
        page = op.get_bind().execute(query).all()
        if not page:
            return
        rows = [
            {"key": key[:63], "value": value[:256], "create_time": row.create_time, "job_id": row.id}
            for row in page
            for key, value in _of(row.labels).items()
        ]
        if rows:
            op.bulk_insert(labels, rows)
        after = page[-1].id


def _of(labels: object) -> dict[str, str]:
    found = json.loads(labels) if isinstance(labels, str) else labels
    return dict(found) if isinstance(found, dict) else {}
