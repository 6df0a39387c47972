"""The databases that a store runs on, so that a test can run on each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypersdk_kernel.store.backend import Backend
from hypersdk_kernel.store.postgresql import Postgresql
from hypersdk_kernel.store.sqlite import Sqlite

from support.postgres import PASSWORD, Postgres


@dataclass
class Database:
    """One database of a test's own. `postgres`: its server, None for SQLite in `folder`."""

    folder: Path
    postgres: Postgres | None = None
    name: str = ""

    @property
    def shared(self) -> bool:
        return self.postgres is not None

    def backend(self) -> Backend:
        """Anew for each store that is opened."""
        if self.postgres is None:
            return Sqlite(self.folder / "state.db")
        return Postgresql(self.postgres.url(self.name), PASSWORD)

    def flags(self) -> list[str]:
        """For hypersdkd."""
        if self.postgres is None:
            return []
        secret = str(self.postgres.password_file)
        return ["--database", self.postgres.url(self.name), "--database-password-file", secret]

    def source(self) -> str:
        """`backend()` as an expression, for tests that start an interpreter."""
        if self.postgres is None:
            return f"sqlite.Sqlite(pathlib.Path({str(self.folder / 'state.db')!r}))"
        return f"postgresql.Postgresql({self.postgres.url(self.name)!r}, {PASSWORD!r})"
