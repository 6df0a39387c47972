"""Bring a database to the schema of this version. Alembic (0.3 s to import) is loaded only when there is something
to do."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from hypersdk.errors import FailedPrecondition
from sqlalchemy import inspect, text

from hypersdk_kernel.store.backend import Backend

HEAD = "0010"
"""Newest revision in migrations/versions; a test compares."""


def current(engine: sqlalchemy.Engine) -> str | None:
    """The revision a database is at; None when it is empty."""
    with engine.connect() as conn, conn.begin():
        if not inspect(conn).has_table("alembic_version"):
            return None
        found = conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return None if found is None else str(found)


def prepare(backend: Backend) -> str:
    """Migrate to HEAD and return it. Every migration is one transaction, with the note that it was made: one that is
    interrupted leaves the database as the former version wrote it. Raises FailedPrecondition (SCHEMA_TOO_NEW) for a
    database of a later version."""
    with backend.migrating():
        found = current(backend.engine)
        if found == HEAD:
            return HEAD
        check_known(found)
        upgrade(backend.engine, HEAD)
        return HEAD


def check_known(found: str | None) -> None:
    """Raises FailedPrecondition (SCHEMA_TOO_NEW) for a revision that is later than ours."""
    if found is not None and found > HEAD:
        raise FailedPrecondition(
            f"the database was written by a newer HyperSDK (schema {found}, this one knows {HEAD}); "
            "install that version again, or restore a backup made before the upgrade",
            reason="SCHEMA_TOO_NEW",
            metadata={"found": found, "known": HEAD},
        )


def upgrade(engine: sqlalchemy.Engine, revision: str) -> None:
    """Run the migrations up to `revision`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    command.upgrade(config, revision)
