"""Several daemons on one PostgreSQL."""

from __future__ import annotations

import time
from pathlib import Path

from .daemon import Daemon
from .databases import Database


class Fleet:
    """Daemons that share a PostgreSQL database; each has a state directory of its own."""

    def __init__(self, tmp_path: Path, database: Database) -> None:
        assert database.postgres is not None
        self.tmp_path, self.database = tmp_path, database
        self.members: list[Daemon] = []

    def start(self, *flags: str) -> Daemon:
        folder = self.tmp_path / f"k{len(self.members)}"
        folder.mkdir()
        daemon = Daemon(folder, *self.database.flags(), *flags)
        self.members.append(daemon)
        daemon.start(40)
        return daemon

    def close(self) -> None:
        for daemon in self.members:
            daemon.close()

    def rows(self, sql: str) -> list[tuple]:
        """What the database answers."""
        assert self.database.postgres is not None
        return self.database.postgres.execute(sql, self.database.name)

    def leader(self, timeout_s: float = 20.0) -> Daemon:
        """The daemon that leads, by the heartbeats; waits until there is one among those that live."""
        deadline = time.monotonic() + timeout_s
        while True:
            rows = self.rows("SELECT k.pid FROM kernels k JOIN cluster c ON k.epoch = c.epoch WHERE c.epoch > 0")
            for daemon in self.members:
                assert daemon.process is not None
                if (daemon.process.pid,) in rows and daemon.process.poll() is None:
                    return daemon
            assert time.monotonic() < deadline, rows
            time.sleep(0.05)
