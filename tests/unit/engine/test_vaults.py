"""Secrets of vaults: asked when needed, kept as long as they may be, and every failure with its class."""

import pytest
from hosting_fakes import make_component, make_plugin
from hypersdk.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.vaults import MAX_KEPT, MAX_KEPT_S, Vaults
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.store.engine import Store

SCHEMA = {"type": "object", "properties": {"password": {"type": "string", "secret": True}, "host": {}}}
VALUE = "hunter2-and-more"


class Hosts:
    def __init__(self):
        self.asked, self.answer = [], {"value": VALUE, "ttl_s": 60}

    async def ask(self, component, service, method, request, connection, timeout_s, accept):
        self.asked.append((component.name, service, method, dict(request), connection))
        if isinstance(self.answer, Exception):
            raise self.answer
        return accept(component, self.answer)


@pytest.fixture
def hosts():
    return Hosts()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def connections(tmp_path, hosts, clock):
    found = [
        make_plugin(make_component("secrets/vault", plugin="vault", config_schema=SCHEMA)),
        make_plugin(make_component("provider/dir", plugin="dir", config_schema=SCHEMA)),
    ]
    registry = Registry(found)
    store = await Store.open(tmp_path / "state.db", clock)
    made = Connections(store, clock, registry, Vaults(registry, hosts, clock))
    await made.create("vault1", "secrets/vault", {"password": "env:PATH"}, actor="me")
    await made.create("lab", "provider/dir", {"host": "h", "password": "vault1:lab/vc:1"}, actor="me")
    yield made
    await store.close()


async def test_a_secret_is_asked_of_its_vault_with_the_vaults_own_secrets(connections, hosts):
    resolved = await connections.resolve("connections/lab")
    assert (resolved.config, resolved.secrets) == ({"host": "h"}, {"password": VALUE})
    component, service, method, request, vault = hosts.asked[0]
    assert (component, service, method, request) == ("secrets/vault", "", "Resolve", {"ref": "lab/vc:1"})
    assert vault.name == "connections/vault1"
    assert vault.secrets["password"]
    assert VALUE not in repr(resolved)


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(60, 60), (1e9, MAX_KEPT_S)])
async def test_a_value_is_kept_as_long_as_the_vault_says_and_never_longer_than_we_do(
    connections, hosts, clock, ttl_s, kept_s
):
    hosts.answer = {"value": VALUE, "ttl_s": ttl_s}
    for _ in range(3):
        await connections.resolve("connections/lab")
    assert len(hosts.asked) == 1
    clock.advance(kept_s - 1)
    await connections.resolve("connections/lab")
    assert len(hosts.asked) == 1
    clock.advance(1)
    await connections.resolve("connections/lab")
    assert len(hosts.asked) == 2


async def test_a_value_without_a_time_is_asked_each_time(connections, hosts):
    hosts.answer = {"value": VALUE}
    for _ in range(3):
        await connections.resolve("connections/lab")
    assert len(hosts.asked) == 3


async def test_a_changed_vault_is_asked_afresh(connections, hosts):
    await connections.resolve("connections/lab")
    await connections.update("vault1", {"config": {"host": "other"}}, actor="me")
    await connections.resolve("connections/lab")
    assert len(hosts.asked) == 2


async def test_what_is_kept_is_bounded(connections, hosts):
    vaults = connections._vaults
    for number in range(MAX_KEPT + 50):
        await vaults.value(f"vault1:{number}", "password", connections.get)
    assert len(vaults._kept) == MAX_KEPT


@pytest.mark.parametrize(
    ("cause", "error", "reason"),
    [
        (Unavailable("sealed"), Unavailable, "SECRET_SOURCE_UNAVAILABLE"),
        (ResourceExhausted("slower", retry_after_s=7), Unavailable, "SECRET_SOURCE_UNAVAILABLE"),
        (NotFound("no such", reason="SECRET_NOT_FOUND"), FailedPrecondition, "SECRET_UNAVAILABLE"),
        (PermissionDenied("no"), FailedPrecondition, "SECRET_UNAVAILABLE"),
        (Internal("a defect"), FailedPrecondition, "SECRET_UNAVAILABLE"),
    ],
)
async def test_only_what_passes_by_itself_is_worth_another_try(connections, hosts, cause, error, reason):
    hosts.answer = cause
    with pytest.raises(error) as failed:
        await connections.resolve("connections/lab")
    assert failed.value.reason == reason
    assert failed.value.retryable == (error is Unavailable)
    assert failed.value.retry_after_s == cause.retry_after_s
    assert failed.value.metadata["reference"] == "vault1:lab/vc:1"


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"value": 7}, {"value": VALUE, "ttl_s": "long"}, {"value": VALUE, "ttl_s": -1},
        {"value": VALUE, "ttl_s": float("nan")}, {"value": VALUE * 9999}, {"value": VALUE, "ttl_s": True},
    ],
    ids=str,
)  # fmt: skip
async def test_an_answer_that_is_no_secret_is_refused_and_not_repeated(connections, hosts, answer):
    hosts.answer = answer
    with pytest.raises(FailedPrecondition) as failed:
        await connections.resolve("connections/lab")
    assert VALUE not in str(failed.value.to_json())


@pytest.mark.parametrize("value", ["hunter2", "nobody:secret", "lab:secret", "vault1:", "vault1:a\nb", "Vault1:x"])
async def test_a_reference_to_what_is_no_vault_is_taken_for_the_secret_itself(connections, value):
    with pytest.raises(InvalidArgument) as refused:
        await connections.create("x", "provider/dir", {"password": value}, actor="me")
    assert refused.value.reason == "SECRET_NOT_A_REFERENCE"
    assert value not in str(refused.value.to_json())


async def test_a_vault_takes_no_secret_from_a_vault(connections):
    with pytest.raises(InvalidArgument):
        await connections.create("vault2", "secrets/vault", {"password": "vault1:x"}, actor="me")


async def test_a_vault_that_others_need_stays(connections):
    with pytest.raises(FailedPrecondition) as refused:
        await connections.delete("vault1", actor="me")
    assert refused.value.reason == "CONNECTION_IN_USE"
    assert "connections/lab" in refused.value.message
    await connections.delete("lab", actor="me")
    await connections.delete("vault1", actor="me")
