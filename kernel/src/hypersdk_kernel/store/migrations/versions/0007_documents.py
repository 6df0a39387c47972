"""Documents (windows, limits, job groups, settings), and of jobs their group."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("create_time", sa.Float, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("documents_by_create_time", "documents", ["kind", "create_time", "id"])
    op.add_column("jobs", sa.Column("job_group", sa.String(63), nullable=False, server_default=""))
    op.create_index("jobs_by_group", "jobs", ["job_group", "state"])
