"""A throw-away PostgreSQL from Debian's package, one a test session: on loopback, ended with the session."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

USER = "hypersdk"
PASSWORD = "planted-postgres-secret"
_TEMPLATE = "hypersdk_template"


def missing() -> str:
    """Why there can be no PostgreSQL here; empty when there can."""
    if _binaries() is None:
        return "PostgreSQL is not installed: `make system-tools` as root, or apt-get install postgresql"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed: `make setup`"
    return ""


@dataclass
class Postgres:
    """A running server. `url` of a database of its own for each asker."""

    port: int
    folder: Path
    _made: int = field(default=0)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def password_file(self) -> Path:
        return self.folder / "client-password"

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Every process of the server is stopped: connections stay open, and nobody answers."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        stopped = [first]
        os.kill(first, signal.SIGSTOP)  # first, so that it starts no more
        try:
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
            for pid in map(int, children):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)
            yield
        finally:
            for pid in reversed(stopped):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        with psycopg.connect(self.url(database), password=PASSWORD, autocommit=True) as conn:
            done = conn.execute(sql)
            return [] if done.description is None else done.fetchall()

    def create(self, template: str = "template0") -> str:
        """A new database's name."""
        self._made += 1
        name = f"t{os.getpid()}_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def migrated(self) -> str:
        """A new database that has the newest schema: a copy, which is quicker than the migrations."""
        from hypersdk_kernel.store.postgresql import Postgresql
        from hypersdk_kernel.store.schema import prepare

        if not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{_TEMPLATE}'"):
            self.execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
            backend = Postgresql(self.url(_TEMPLATE), PASSWORD)
            prepare(backend)
            backend.engine.dispose()
        return self.create(_TEMPLATE)


@contextlib.contextmanager
def running(*, fsync: bool = True) -> Iterator[Postgres]:
    """Start a server on a free port and stop it. Without `fsync` what it committed survives every death of a process,
    though not of the machine, and to make and drop a database takes a fifth of the time."""
    binaries = _binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="hypersdk-pg-"))
    try:
        user = _unprivileged(folder)
        secret = folder / "pw"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        private = folder / "client-password"
        private.write_text(f"{PASSWORD}\n")
        private.chmod(0o600)
        port = _free_port()
        data = folder / "data"

        def run(*command: str | Path, check: bool = True) -> None:
            log = (folder / "commands.log").open("ab")  # a pipe would be kept open by the server
            subprocess.run(command, check=check, stdout=log, stderr=log, cwd=folder, user=user)
            log.close()

        initdb = [binaries / "initdb", "-D", data, "-A", "scram-sha-256", "-U", USER, f"--pwfile={secret}"]
        run(*initdb, "-E", "UTF8", "--no-locale")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=200"
        settings += f" -c fsync={'on' if fsync else 'off'}"
        pg_ctl = [binaries / "pg_ctl", "-D", data]
        run(*pg_ctl, "-w", "-l", data / "log", "-o", settings, "start")

        def stop() -> None:
            if (data / "postmaster.pid").exists():
                run(*pg_ctl, "-m", "immediate", "stop", check=False)

        atexit.register(stop)  # a session that is interrupted twice tears no fixture down
        try:
            yield Postgres(port, folder)
        finally:
            stop()
            atexit.unregister(stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[-3].zfill(4))
    return found[-1].parent if found else None


def _unprivileged(folder: Path) -> str | None:
    """PostgreSQL does not run as root: the package's own user then does, who must own the folder."""
    if os.geteuid() != 0:
        return None
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    folder.chmod(0o755)
    return "postgres"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
