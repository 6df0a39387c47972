"""Which builds jobs hold, filled from the jobs that have not ended."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_ENDED = ("succeeded", "failed", "cancelled")


def upgrade() -> None:
    pins = op.create_table(
        "job_pins",
        sa.Column("job_id", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
    )
    op.create_index("job_pins_by_digest", "job_pins", ["digest"])
    jobs = sa.table("jobs", sa.column("id"), sa.column("state"), sa.column("body"))
    query = sa.select(jobs.c.id, jobs.c.body).where(jobs.c.state.not_in(_ENDED))
    rows = {
        (row.id, pin["digest"])
        for row in op.get_bind().execute(query)
        for pin in json.loads(row.body).get("pins") or ()
    }
    if rows:
        op.bulk_insert(pins, [{"job_id": job_id, "digest": digest} for job_id, digest in sorted(rows)])
