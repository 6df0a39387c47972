"""Schedules, and the schedule that made a job."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("uid", sa.String(36), nullable=False, unique=True),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("next_start_time", sa.Float),
        sa.Column("create_time", sa.Float, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
    )
    op.create_index("schedules_by_next_start_time", "schedules", ["next_start_time"])
    op.add_column("jobs", sa.Column("schedule", sa.String(80)))
    op.create_index("jobs_by_schedule", "jobs", ["schedule", "create_time"])
