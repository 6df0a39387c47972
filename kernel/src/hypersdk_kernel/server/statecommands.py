"""`hypersdkd backup-state` and `restore-state`: the database of a state directory, out and in again.

A backup is taken beside a running daemon. A restore wants the directory for itself, and sets aside what belonged to the
old database: the database, the archive of its audit trail, and the run directories, whose journals would otherwise be
taken for those of attempts that the restored jobs have yet to make.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypersdk.errors import FailedPrecondition, Unsupported

from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.security.private import ensure_directory
from hypersdk_kernel.server.config import Settings
from hypersdk_kernel.server.statedir import claim
from hypersdk_kernel.store import backup as copies


def backup(settings: Settings, target: Path) -> str:
    """What to print. Raises as store.backup.save; Unsupported (BACKUP_UNSUPPORTED)."""
    _refuse_server(settings, "pg_dump --format=custom (or base backups with a WAL archive)")
    found = copies.save(settings.state_dir.absolute() / "state.db", target.absolute())
    return f"{target}: {found.jobs} jobs, revision {found.last_revision}, schema {found.schema}, {found.bytes} bytes\n"


def restore(settings: Settings, source: Path) -> str:
    """What to print. Raises as store.backup.inspect; Aborted (STATE_DIR_IN_USE), FailedPrecondition (RUNNERS_ALIVE),
    Unsupported (BACKUP_UNSUPPORTED)."""
    _refuse_server(settings, "pg_restore")
    found = copies.inspect(source.absolute())
    stamp = f"before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"
    with claim(settings.state_dir) as state:
        runs = settings.runs_dir or state.runs
        _refuse_runners(runs)
        partial = copies.copy(source.absolute(), state.path)
        try:
            copies.inspect(partial)
            if any(runs.iterdir() if runs.exists() else ()):
                os.rename(runs, runs.with_name(f"{runs.name}.{stamp}"))
                ensure_directory(runs)
                copies.sync_directory(runs.parent)
            if any(state.audit.iterdir()):  # of entries that the copy may have to make anew
                os.rename(state.audit, state.audit.with_name(f"{state.audit.name}.{stamp}"))
                ensure_directory(state.audit)
                copies.sync_directory(state.path)
            kept = state.database.with_name(f"{state.database.name}.{stamp}")
            there = copies.put_in_place(partial, state.database, kept)
        finally:
            partial.unlink(missing_ok=True)
    aside = f"; the old one is {kept}" if there else ""
    return f"{source}: {found.jobs} jobs, revision {found.last_revision}, schema {found.schema}, restored{aside}\n"


def _refuse_server(settings: Settings, instead: str) -> None:
    if settings.database:
        raise Unsupported(
            f"the state is in PostgreSQL, whose own tools copy it: {instead}; see docs/stores.md",
            reason="BACKUP_UNSUPPORTED",
        )


def _refuse_runners(runs: Path) -> None:
    alive = [path.name for path in (runs.iterdir() if runs.exists() else ()) if RunDir(runs, path.name).alive()]
    if alive:
        raise FailedPrecondition(
            f"{len(alive)} runners are still at work for the old database ({', '.join(alive[:3])}); wait for them, or "
            "start the daemon and cancel their jobs",
            reason="RUNNERS_ALIVE",
            metadata={"count": str(len(alive))},
        )
