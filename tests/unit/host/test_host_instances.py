"""Instances: one for each connection and configuration, closed when nobody uses it."""

import threading

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk.host.instances import MAX_IDLE, Instances


class Recorder:
    """Stands for a storage; counts what happens to all of its kind."""

    made: list["Recorder"]

    def __init__(self):
        self.closed = 0
        type(self).made.append(self)

    def configure(self, config, secrets):
        if config.get("fail"):
            raise InvalidArgument("bad field")
        self.settings = (config, secrets)

    def close(self):
        self.closed += 1
        raise RuntimeError("close may raise")


@pytest.fixture
def kind():
    return type("Kind", (Recorder,), {"made": []})


def connection(name="connections/a", **config):
    return {"name": name, "config": config, "secrets": {"s": "v"}}


def lease(instances, kind, settings):
    return instances.lease("storage/x", kind, settings)


def test_the_same_connection_has_one_instance_which_is_kept(kind):
    instances = Instances()
    for _ in range(3):
        with lease(instances, kind, connection(a=1)) as instance:
            assert instance.settings == ({"a": 1}, {"s": "v"})
    assert len(kind.made) == 1
    with lease(instances, kind, connection("connections/b", a=1)):
        assert len(kind.made) == 2


def test_a_changed_configuration_makes_a_new_one_and_closes_the_old_when_its_calls_have_ended(kind):
    instances = Instances()
    with lease(instances, kind, connection(a=1)) as old:
        with lease(instances, kind, connection(a=2)) as new:
            assert new is not old
            assert old.closed == 0
        assert old.closed == 0
    assert (old.closed, new.closed) == (1, 0)


def test_an_idle_one_is_closed_as_soon_as_the_configuration_changes(kind):
    instances = Instances()
    with lease(instances, kind, connection(a=1)) as old:
        pass
    with lease(instances, kind, connection(a=2)):
        assert old.closed == 1


def test_what_could_not_be_configured_is_tried_again(kind):
    instances = Instances()
    for _ in range(2):
        with pytest.raises(InvalidArgument), lease(instances, kind, connection(fail=1)):
            pass
    assert len(kind.made) == 2
    assert instances._entries == {}


def test_a_provider_needs_a_connection_and_a_format_needs_none(kind):
    instances = Instances()
    with pytest.raises(InvalidArgument) as caught, instances.lease("provider/x", kind, None):
        pass
    assert caught.value.reason == "CONNECTION_REQUIRED"
    with instances.lease("format/x", kind, None) as first, instances.lease("format/x", kind, connection()) as second:
        assert first is second
        assert not hasattr(first, "settings")


def test_the_longest_unused_are_closed_beyond_the_limit(kind):
    instances = Instances()
    for number in range(MAX_IDLE + 2):
        with lease(instances, kind, connection(f"connections/c{number}")):
            pass
    assert [i.closed for i in kind.made[:3]] == [1, 1, 0]
    assert sum(i.closed for i in kind.made) == 2


def test_calls_of_many_threads_share_one_instance(kind):
    instances = Instances()
    start = threading.Barrier(8)

    def use():
        start.wait()
        for _ in range(50):
            with lease(instances, kind, connection(a=1)):
                pass

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kind.made) == 1
    instances.close()
    assert kind.made[0].closed == 1
