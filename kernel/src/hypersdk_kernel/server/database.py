"""Which database the daemon works on, from its settings."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.security.private import read_private, write_private
from hypersdk_kernel.server.config import Settings
from hypersdk_kernel.server.statedir import StateDir
from hypersdk_kernel.store.backend import Backend
from hypersdk_kernel.store.sqlite import Sqlite

LOST_MARGIN_S = 20.0
"""More than the seconds that an orphaned runner is given to stop (hypersdk.runner)."""
_MAX_PASSWORD = 4096


def backend_of(settings: Settings, state: StateDir) -> Backend:
    """Raises InvalidArgument (CONFIG_INVALID), FailedPrecondition (STATE_DIR_UNSAFE, STORE_DRIVER_MISSING)."""
    if not settings.database:
        return Sqlite(state.database)
    from hypersdk_kernel.store.postgresql import Postgresql  # loads the driver

    return Postgresql(settings.database, _password(settings.database_password_file))


def place_of(runs: Path) -> str:
    """What tells this folder of runs from every other, whichever kernel looks into it."""
    file = runs / "place"
    if read_private(file) is None:
        made = f"runs/{uuid.uuid4()}"
        mine = runs / f".{made.removeprefix('runs/')}"
        write_private(mine, made.encode())
        with contextlib.suppress(FileExistsError):  # by another kernel, at this moment
            os.link(mine, file)
        mine.unlink()
    return (read_private(file) or b"").decode("ascii", "replace")


def _password(file: Path | None) -> str | None:
    if file is None:
        return None  # libpq looks into PGPASSFILE and ~/.pgpass
    data = read_private(file)
    if data is None:
        raise _invalid(f"there is no file {os.fspath(file)}")
    if len(data) > _MAX_PASSWORD:
        raise _invalid(f"{os.fspath(file)} has more than {_MAX_PASSWORD} bytes")
    return data.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _invalid(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"wrong configuration: database_password_file: {text}",
        reason="CONFIG_INVALID",
        violations=(FieldViolation("database_password_file", text),),
    )
