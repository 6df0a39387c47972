"""Fixtures that every test folder may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import postgres as servers
from support.daemon import Daemon
from support.databases import Database


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon of this test's own."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """One server for the whole session; every test has a database of its own in it."""
    why = servers.missing()
    if why:
        pytest.skip(why)
    with servers.running(fsync=False) as server:
        yield server


@pytest.fixture
def pg_database(postgres: servers.Postgres, tmp_path: Path) -> Iterator[Database]:
    """An empty store on PostgreSQL."""
    name = postgres.migrated()
    yield Database(tmp_path, postgres, name)
    postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty store on each database that we support; the test runs once for each."""
    if request.param == "sqlite":
        return Database(tmp_path)
    made: Database = request.getfixturevalue("pg_database")
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The same without a schema, for tests of migrations."""
    if request.param == "sqlite":
        yield Database(tmp_path)
        return
    server: servers.Postgres = request.getfixturevalue("postgres")
    name = server.create()
    yield Database(tmp_path, server, name)
    server.drop(name)
