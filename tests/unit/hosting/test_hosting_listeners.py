"""Sockets of services: bound as configured, kept while they are wanted."""

import socket

import pytest
from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk.plugin.manifest import ComponentManifest
from hypersdk_kernel.hosting.listeners import Listeners, listen_fields

SCHEMA = {
    "type": "object",
    "properties": {"a": {"listen": True}, "b": {"listen": True}, "c": {"listen": "yes"}, "d": {}, "e": 7},
}
MANIFEST = ComponentManifest("service", "x", config_schema=SCHEMA)


@pytest.fixture
def listeners():
    made = Listeners()
    yield made
    made.close()


def test_only_what_the_schema_marks_is_an_address():
    assert listen_fields(MANIFEST) == ("a", "b")
    assert listen_fields(ComponentManifest("service", "x")) == ()


def test_a_socket_is_kept_while_its_address_stays_and_closed_when_nobody_wants_it(listeners):
    first = listeners.use(MANIFEST, {"a": "127.0.0.1:0", "b": "localhost:0"})
    assert listeners.use(MANIFEST, {"a": "127.0.0.1:0"})["a"] is first["a"]
    assert len(listeners.addresses()) == 2
    listeners.trim({"a"})
    assert listeners.addresses() == [f"127.0.0.1:{first['a'].getsockname()[1]}"]
    assert first["b"].fileno() == -1
    listeners.close()
    assert listeners.addresses() == []


def test_another_address_is_another_socket(listeners):
    first = listeners.use(MANIFEST, {"a": "127.0.0.1:0"})["a"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    second = listeners.use(MANIFEST, {"a": f"127.0.0.1:{port}"})["a"]
    assert second.getsockname()[1] == port
    assert first.fileno() == -1


@pytest.mark.parametrize("wrong", ["", "80", "here", "a:b", "a:65536", "::1:80", "unix:/x", "a b:1", "[::1]", "x:1:2"])
def test_what_is_no_address_is_refused(listeners, wrong):
    with pytest.raises(InvalidArgument) as refused:
        listeners.use(MANIFEST, {"a": wrong})
    assert refused.value.reason == "LISTEN_ADDRESS_INVALID"


def test_an_address_in_use_changes_nothing(listeners):
    before = listeners.use(MANIFEST, {"a": "127.0.0.1:0"})["a"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = {"b": "127.0.0.1:0", "a": f"127.0.0.1:{taken.getsockname()[1]}"}
        with pytest.raises(FailedPrecondition) as refused:
            listeners.use(MANIFEST, config)
    assert refused.value.reason == "ADDRESS_UNAVAILABLE"
    assert listeners.use(MANIFEST, {"a": "127.0.0.1:0"})["a"] is before
