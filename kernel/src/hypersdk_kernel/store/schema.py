"""Bring a database to the schema of this version. Alembic (0.3 s to import) is loaded only when there is something
to do."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from hypersdk.errors import FailedPrecondition
from sqlalchemy import inspect, text

HEAD = "0007"
"""Newest revision in migrations/versions; a test compares."""


def current(engine: sqlalchemy.Engine) -> str | None:
    """The revision a database is at; None when it is empty."""
    with engine.connect() as conn, conn.begin():
        if not inspect(conn).has_table("alembic_version"):
            return None
        found = conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return None if found is None else str(found)


def prepare(engine: sqlalchemy.Engine) -> str:
    """Migrate to HEAD and return it. Raises FailedPrecondition (SCHEMA_TOO_NEW) for a database of a later version."""
    found = current(engine)
    if found == HEAD:
        return HEAD
    if found is not None and found > HEAD:
        raise FailedPrecondition(
            f"the state directory was written by a newer HyperSDK (schema {found}, this one knows {HEAD}); "
            "install that version again, or restore a backup made before the upgrade",
            reason="SCHEMA_TOO_NEW",
            metadata={"found": found, "known": HEAD},
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    command.upgrade(config, "head")
    return HEAD
