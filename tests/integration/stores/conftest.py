"""Daemons on one PostgreSQL."""

import pytest
from hypersdk.client import Client
from support.fleet import Fleet


@pytest.fixture
def fleet(tmp_path, pg_database):
    made = Fleet(tmp_path, pg_database)
    yield made
    made.close()


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
