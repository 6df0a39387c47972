"""Subscriptions, how far each has been told, and what their receivers would not take."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("uid", sa.String(36), nullable=False, unique=True),
        sa.Column("connection_id", sa.String(63), nullable=False),
        sa.Column("create_time", sa.Float, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("subscriptions_by_connection", "subscriptions", ["connection_id"])
    op.create_table(
        "subscription_positions",
        sa.Column("subscription_id", sa.String(63), primary_key=True),
        sa.Column("cursor", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("subscription_id", sa.String(63), primary_key=True),
        sa.Column("key", sa.String(63), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("queued", sa.Integer, nullable=False),
        sa.Column("create_time", sa.Float, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("dead_letters_by_revision", "dead_letters", ["subscription_id", "queued", "revision"])
