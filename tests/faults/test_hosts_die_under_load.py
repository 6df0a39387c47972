"""kill -9 and SIGSTOP of hosts at random, under load through the public API."""

import pytest
from hypersdk.client import Client
from support import chaos

pytestmark = pytest.mark.faults


def test_of_hosts_killed_and_stopped_at_random_callers_notice_only_what_the_contract_allows(daemon, tmp_path):
    address = f"unix:{daemon.state / 'hypersdkd.sock'}"
    with Client(address) as client:
        components = chaos.install(client, tmp_path, 6)
        with chaos.under_chaos(address, components) as load:
            load.harm_for(client, seconds=6.0, pause_s=0.4, seed=7)
    assert load.forbidden == []
    assert len(load.harms) >= 6
    assert {h.signal.name for h in load.harms} == {"SIGKILL", "SIGSTOP"}
    assert None not in load.recoveries()
    assert load.unknown > 0  # the load would have noticed
