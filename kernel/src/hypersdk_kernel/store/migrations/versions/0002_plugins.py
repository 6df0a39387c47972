"""Plugins and their generations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "plugins",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("distribution", sa.String(128), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("last_number", sa.Integer, nullable=False),
    )
    op.create_table(
        "generations",
        sa.Column("plugin_id", sa.String(63), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("activate_time", sa.Float),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("generations_by_digest", "generations", ["digest"])
