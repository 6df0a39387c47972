"""LeaderLock: which of the kernels on one PostgreSQL leads.

A thread of its own holds a connection, asks for the advisory lock once a second, and when it has it raises the epoch:
from that commit on every transaction of a former leader is refused (`Store.write(leading=True)`). While it leads or
waits, it writes a heartbeat into `kernels` by the database's clock.

    the leader dies                 its session ends, the lock is free at once
    its machine dies                TCP keepalives end the session within some 5 s
    it is stopped (SIGSTOP)         its session lives on, but its heartbeat is old after STALE_S: a follower has the
                                    server end that session
    it loses the database           its session ends; it finds out at its next heartbeat, and had no writes meanwhile

Not here: what a leader does (engine, by `Leadership`).
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from hypersdk_kernel.store.postgresql import LEADER_KEY, Postgresql

log = structlog.get_logger(__name__)

BEAT_S = 1.0
STALE_S = 5.0
"""A leader whose last heartbeat is older than this is replaced, seconds. With BEAT_S, connecting and the start of the
dispatcher that is a takeover well within 10 s."""
_FORGOTTEN_S = 3600.0

_JOIN = """INSERT INTO kernels (uid, host, pid, backend, epoch, start_time, beat_time)
VALUES (%s, %s, %s, pg_backend_pid(), 0, extract(epoch FROM clock_timestamp()), extract(epoch FROM clock_timestamp()))
ON CONFLICT (uid) DO UPDATE SET backend = excluded.backend, epoch = 0, beat_time = excluded.beat_time"""
_BEAT = "UPDATE kernels SET beat_time = extract(epoch FROM clock_timestamp()) WHERE uid = %s"
_FORGET = "DELETE FROM kernels WHERE beat_time < extract(epoch FROM clock_timestamp()) - %s"
_RAISE = "UPDATE cluster SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch"
_LEAD = "UPDATE kernels SET epoch = CASE WHEN uid = %s THEN %s ELSE 0 END WHERE uid = %s OR epoch <> 0"
_END_STALE = """SELECT pg_terminate_backend(k.backend) FROM kernels k JOIN pg_locks l ON l.pid = k.backend
WHERE l.locktype = 'advisory' AND l.granted
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (l.classid::bigint << 32 | l.objid::bigint) = %s AND k.beat_time < extract(epoch FROM clock_timestamp()) - %s"""


class LeaderLock:
    """Its life: `start`; then `tell(epoch)` when we lead and `tell(None)` when we do not any more, from its thread;
    `stop` gives the lock back."""

    def __init__(self, backend: Postgresql, tell: Callable[[int | None], None]) -> None:
        self.uid = str(uuid.uuid4())
        self._backend = backend
        self._tell = tell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-leader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let go. Blocks for a second at most, unless the database hangs."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._hold()
            except Exception as exc:  # noqa: BLE001 - whatever broke the connection, we are no leader without it
                log.warning("leader_connection_failed", error=str(exc).strip())
                self._stopped.wait(BEAT_S)

    def _hold(self) -> None:
        """One connection, until it breaks or we are stopped."""
        leading = False
        try:
            with self._backend.connect() as conn:
                conn.execute("SET statement_timeout = '4s'")
                conn.execute(_JOIN, (self.uid, socket.gethostname()[:255], os.getpid()))
                while not self._stopped.is_set():
                    if not leading and (epoch := self._try(conn)):
                        leading = True
                        self._tell(epoch)
                    conn.execute(_BEAT, (self.uid,))
                    self._stopped.wait(BEAT_S)
                if leading:
                    leading = False
                    self._tell(None)
                conn.execute("DELETE FROM kernels WHERE uid = %s", (self.uid,))
        finally:
            if leading:
                self._tell(None)

    def _try(self, conn: Any) -> int:
        """The new epoch when we lead from now on, else 0."""
        if not conn.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_KEY,)).fetchone()[0]:
            ended = conn.execute(_END_STALE, (LEADER_KEY, STALE_S)).fetchall()
            if ended:
                log.warning("stale_leader_ended", sessions=len(ended))
            return 0
        with conn.transaction():
            (epoch,) = conn.execute(_RAISE).fetchone()
            conn.execute(_LEAD, (self.uid, epoch, self.uid))
        conn.execute(_FORGET, (_FORGOTTEN_S,))
        return int(epoch)
