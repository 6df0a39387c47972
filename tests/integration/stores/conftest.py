"""Daemons on one PostgreSQL."""

import time

import pytest
from hypersdk.client import Client
from support.daemon import Daemon


class Fleet:
    """Daemons that share a database; each has a state directory of its own."""

    def __init__(self, tmp_path, database):
        self.tmp_path, self.database = tmp_path, database
        self.members = []

    def start(self, *flags):
        folder = self.tmp_path / f"k{len(self.members)}"
        folder.mkdir()
        daemon = Daemon(folder, *self.database.flags(), *flags)
        self.members.append(daemon)
        daemon.start(40)
        return daemon

    def leader(self, timeout_s=20.0):
        """The daemon that leads, by the heartbeats; waits until there is one among those that live."""
        deadline = time.monotonic() + timeout_s
        while True:
            rows = self.database.postgres.execute(
                "SELECT k.pid FROM kernels k JOIN cluster c ON k.epoch = c.epoch WHERE c.epoch > 0",
                self.database.name,
            )
            for daemon in self.members:
                if (daemon.process.pid,) in rows and daemon.process.poll() is None:
                    return daemon
            assert time.monotonic() < deadline, rows
            time.sleep(0.05)


@pytest.fixture
def fleet(tmp_path, pg_database):
    made = Fleet(tmp_path, pg_database)
    yield made
    for daemon in made.members:
        daemon.close()


@pytest.fixture
def connect():
    """Clients of daemons, closed at the end."""
    opened = []

    def make(daemon):
        client = Client(f"unix:{daemon.state / 'hypersdkd.sock'}")
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()
