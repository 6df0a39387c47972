"""Retention: deletes the journals and logs of jobs that ended long ago. The jobs themselves stay in the store.

Goes through the folders that there are and asks the store whose they are; a folder that is no job's is left alone. Runs
once at the start of a kernel and then every LOOK_S; several kernels on one folder do no harm to each other. Deleting is
done in a thread, a few folders at a time, and may be cut off at any point: what is left is found by the next look.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import structlog
from hypersdk.errors import HyperError
from sqlalchemy import Connection

from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store

LOOK_S = 3600.0
BATCH = 200
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

log = structlog.get_logger(__name__)


class Retention:
    """`keep_s`: seconds after a job's end; 0 keeps for ever."""

    def __init__(self, store: Store, clock: Clock, runs: Path, keep_s: float) -> None:
        self._store = store
        self._clock = clock
        self._runs = runs
        self._keep_s = keep_s

    async def run(self) -> None:
        """Until it is cancelled."""
        while self._keep_s > 0:
            try:
                count = await self.sweep()
                if count:
                    log.info("logs_deleted", jobs=count, older_than_s=self._keep_s)
            except (HyperError, OSError) as exc:
                log.warning("logs_not_deleted", error=str(exc))
            await asyncio.sleep(LOOK_S)

    async def sweep(self) -> int:
        """Look once; how many jobs' folders were deleted."""
        count = 0
        folders = self._folders()
        while batch := await asyncio.to_thread(lambda: list(islice(folders, BATCH))):
            horizon = self._clock.now() - self._keep_s

            def ended(conn: Connection, batch: list[str] = batch, horizon: float = horizon) -> set[str]:
                return rows.ended_before(conn, batch, horizon)

            old = await self._store.read(ended)
            count += await asyncio.to_thread(lambda old=old: sum(map(self._delete, sorted(old))))  # type: ignore[misc]
        return count

    def _folders(self) -> Iterator[str]:
        try:
            with os.scandir(self._runs) as entries:
                for entry in entries:
                    if _UID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                        yield entry.name
        except FileNotFoundError:
            return

    def _delete(self, uid: str) -> bool:
        if RunDir(self._runs, uid).alive():
            return False
        shutil.rmtree(self._runs / uid, ignore_errors=True)
        return True
