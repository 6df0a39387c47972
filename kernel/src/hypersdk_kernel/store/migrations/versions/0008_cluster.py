"""Several kernels on one database: the counter of revisions, the leader's epoch, heartbeats."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "cluster",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_revision", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO cluster (id, last_revision, epoch) SELECT 1, COALESCE(MAX(revision), 0), 0 FROM events"
    )
    op.create_table(
        "kernels",
        sa.Column("uid", sa.String(36), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("backend", sa.Integer, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("start_time", sa.Float, nullable=False),
        sa.Column("beat_time", sa.Float, nullable=False),
    )
