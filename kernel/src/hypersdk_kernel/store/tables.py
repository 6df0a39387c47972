"""The schema. Times are seconds since the epoch; JSON columns hold what codec.py writes. Migrations must follow
every change
here (`migrations/`); a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

REQUESTS_KEPT_S = 24 * 3600.0
"""How long a request id is remembered, seconds."""

jobs = Table(
    "jobs", metadata,
    Column("id", String(63), primary_key=True),
    Column("uid", String(36), nullable=False, unique=True),
    Column("task", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("owner", String(128), nullable=False),
    Column("create_time", Float, nullable=False),
    Column("update_time", Float, nullable=False),
    Column("next_attempt_time", Float),
    Column("revision", BigInteger, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("body", Text, nullable=False),
    Column("schedule", String(80)),
    Index("jobs_by_schedule", "schedule", "create_time"),
    Column("job_group", String(63), nullable=False, server_default=""),
    Index("jobs_by_group", "job_group", "state"),
    Index("jobs_by_state", "state", "create_time"),
    Index("jobs_by_create_time", "create_time", "id"),
    Index("jobs_by_update_time", "update_time", "id"),
    Index("jobs_by_task", "task", "create_time", "id"),
)  # fmt: skip

job_labels = Table(
    "job_labels", metadata,
    Column("key", String(63), primary_key=True),
    Column("value", String(256), primary_key=True),
    Column("create_time", Float, primary_key=True),
    Column("job_id", String(63), primary_key=True),
)  # fmt: skip
"""What `jobs.labels` says, in the order in which it is asked for: the newest jobs that have a label."""

attempts = Table(
    "attempts", metadata,
    Column("job_id", String(63), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("start_time", Float, nullable=False),
    Column("body", Text, nullable=False),
)  # fmt: skip

connections = Table(
    "connections", metadata,
    Column("id", String(63), primary_key=True),
    Column("uid", String(36), nullable=False, unique=True),
    Column("component", String(127), nullable=False),
    Column("create_time", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("body", Text, nullable=False),
)  # fmt: skip

events = Table(
    "events", metadata,
    Column("revision", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("type", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("payload", Text, nullable=False),
    Index("events_by_subject", "subject", "revision"),
)  # fmt: skip

requests = Table(
    "requests", metadata,
    Column("request_id", String(36), primary_key=True),
    Column("method", String(128), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("answer", Text, nullable=False),
    Column("create_time", Float, nullable=False),
    Index("requests_by_time", "create_time"),
)  # fmt: skip

job_connections = Table(
    "job_connections", metadata,
    Column("job_id", String(63), primary_key=True),
    Column("connection_id", String(63), primary_key=True),
    Index("job_connections_by_connection", "connection_id"),
)  # fmt: skip

job_pins = Table(
    "job_pins", metadata,
    Column("job_id", String(63), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Index("job_pins_by_digest", "digest"),
)  # fmt: skip
"""Of jobs that have not ended."""

plugins = Table(
    "plugins", metadata,
    Column("id", String(63), primary_key=True),
    Column("distribution", String(128), nullable=False),
    Column("summary", Text, nullable=False),
    Column("last_number", Integer, nullable=False),
)  # fmt: skip

generations = Table(
    "generations", metadata,
    Column("plugin_id", String(63), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("version", String(128), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("activate_time", Float),
    Column("body", Text, nullable=False),
    Index("generations_by_digest", "digest"),
)  # fmt: skip

audit = Table(
    "audit", metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(128), nullable=False),
    Column("subject", String(512), nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("details", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_by_subject", "subject", "seq"),
)  # fmt: skip

audit_head = Table(
    "audit_head", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)  # fmt: skip
"""1: the newest entry. 2: the newest that was archived and is not in `audit` any more; none while nothing was."""

schedules = Table(
    "schedules", metadata,
    Column("id", String(63), primary_key=True),
    Column("uid", String(36), nullable=False, unique=True),
    Column("paused", Boolean, nullable=False),
    Column("next_start_time", Float),
    Column("create_time", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", Text, nullable=False),
    Index("schedules_by_next_start_time", "next_start_time"),
)  # fmt: skip

subscriptions = Table(
    "subscriptions", metadata,
    Column("id", String(63), primary_key=True),
    Column("uid", String(36), nullable=False, unique=True),
    Column("connection_id", String(63), nullable=False),
    Column("create_time", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("body", Text, nullable=False),
    Index("subscriptions_by_connection", "connection_id"),
)  # fmt: skip

subscription_positions = Table(
    "subscription_positions", metadata,
    Column("subscription_id", String(63), primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)  # fmt: skip

dead_letters = Table(
    "dead_letters", metadata,
    Column("subscription_id", String(63), primary_key=True),
    Column("key", String(63), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("queued", Integer, nullable=False),
    Column("create_time", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("dead_letters_by_revision", "subscription_id", "queued", "revision"),
)  # fmt: skip

documents = Table(
    "documents", metadata,
    Column("kind", String(32), primary_key=True),
    Column("id", String(63), primary_key=True),
    Column("create_time", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("documents_by_create_time", "kind", "create_time", "id"),
)  # fmt: skip

cluster = Table(
    "cluster", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last_revision", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
)  # fmt: skip
"""One row. On PostgreSQL every writing transaction locks it first, so that revisions are committed in their order; a
new leader raises `epoch`, after which the former one's writes are refused. SQLite has one writer and needs neither."""

kernels = Table(
    "kernels", metadata,
    Column("uid", String(36), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("backend", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("start_time", Float, nullable=False),
    Column("beat_time", Float, nullable=False),
)  # fmt: skip
"""Kernels on one PostgreSQL, each with its heartbeat by the database's clock. `epoch`: the leader's; 0 for others."""

job_history = Table(
    "job_history", metadata,
    Column("job_id", String(63), primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    Column("task", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("end_time", Float, nullable=False),
    Column("day", Integer, nullable=False),
    Column("wait_s", Float),
    Column("run_s", Float),
    Column("attempts", Integer, nullable=False),
    Column("bytes_read", BigInteger, nullable=False),
    Column("bytes_written", BigInteger, nullable=False),
    Column("reason", String(64), nullable=False),
    Index("job_history_by_end_time", "end_time"),
)  # fmt: skip
