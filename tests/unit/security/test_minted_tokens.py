"""Tokens of services: good for as long as their process lives, on the unix socket and on TCP."""

import pytest
from hypersdk.errors import Unauthenticated
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.security.authn import Authenticator

PEERS = ["unix:", "ipv4:127.0.0.1:5"]


@pytest.mark.parametrize("peer", PEERS)
def test_a_minted_token_names_its_actor_until_it_is_revoked(peer):
    authenticator = Authenticator("t" * 40, ManualClock())
    assert not authenticator.needs_metadata
    token = authenticator.mint("service/gateway")
    other = authenticator.mint("service/other")
    metadata = [("authorization", f"Bearer {token}")]
    assert authenticator.needs_metadata
    assert authenticator.actor(peer, metadata) == "service/gateway"
    authenticator.revoke(token)
    authenticator.revoke(token)
    assert authenticator.actor(peer, [("authorization", f"bearer {other}")]) == "service/other"
    if peer == "unix:":
        assert authenticator.actor(peer, metadata) == "local"
    else:
        with pytest.raises(Unauthenticated):
            authenticator.actor(peer, metadata)


@pytest.mark.parametrize("metadata", [None, [], [("authorization", "")], [("authorization", "Bearer ")]])
def test_no_token_is_nobodys_token(metadata):
    authenticator = Authenticator(None, ManualClock())
    authenticator.mint("service/gateway")
    assert authenticator.actor("unix:", metadata) == "local"
    with pytest.raises(Unauthenticated):
        authenticator.actor("ipv4:127.0.0.1:5", metadata)
