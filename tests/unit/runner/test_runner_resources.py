"""Resources: known to the next attempt from the moment before they can leak."""

import json

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk.runner.journal import Journal
from hypersdk.runner.resources import Resources, of_earlier_attempts
from hypersdk.wire.redact import Redactor
from hypothesis import given, settings
from hypothesis import strategies as st

SECRET = "correct-horse-battery"


def attempt(folder, number, below=""):
    path = folder / str(number) / below
    path.mkdir(parents=True, exist_ok=True)
    return Journal(path / "journal.jsonl", Redactor([SECRET]))


def resources(folder, number, secrets=()):
    return Resources(attempt(folder, number), of_earlier_attempts(folder, number), secrets)


def test_what_a_dead_attempt_held_is_known_to_the_next(tmp_path):
    first = resources(tmp_path, 1)
    first.acquired("a", "provider/x", {"id": 1})
    first.acquired("b", "storage/y", {"id": 2})
    first.released("a")
    second = resources(tmp_path, 2)
    assert second.earlier() == {"b": {"component": "storage/y", "record": {"id": 2}}}
    second.acquired("c", "provider/x", {})
    assert second.outstanding() == ["b", "c"]
    second.released("b")
    second.released("unknown")
    assert second.outstanding() == ["c"]
    assert list(resources(tmp_path, 3).earlier()) == ["c"]


def test_what_a_cleanup_run_released_is_not_held_any_more(tmp_path):
    resources(tmp_path, 1).acquired("a", "provider/x", {})
    cleanup = Resources(attempt(tmp_path, 1, "cleanup"), of_earlier_attempts(tmp_path, 2), ())
    cleanup.released("a")
    assert of_earlier_attempts(tmp_path, 2) == {}


def test_a_resource_of_the_same_name_replaces_the_one_before(tmp_path):
    resources(tmp_path, 1).acquired("a", "provider/x", {"id": "old"})
    second = resources(tmp_path, 2)
    second.acquired("a", "provider/x", {"id": "new"})
    assert second.outstanding() == ["a"]
    assert of_earlier_attempts(tmp_path, 3)["a"]["record"] == {"id": "new"}
    second.released("a")
    assert second.outstanding() == []


@pytest.mark.parametrize("record", [{"token": SECRET}, {"deep": [{"url": f"https://u:{SECRET}@h"}]}, {SECRET: 1}])
def test_a_record_with_a_secret_in_it_is_refused(tmp_path, record):
    held = resources(tmp_path, 1, [SECRET])
    with pytest.raises(InvalidArgument) as caught:
        held.acquired("a", "provider/x", record)
    assert caught.value.reason == "SECRET_IN_RECORD"
    assert SECRET not in (tmp_path / "1" / "journal.jsonl").read_text()
    assert held.outstanding() == []


def test_a_short_secret_that_is_part_of_a_path_by_chance_is_no_secret(tmp_path):
    held = resources(tmp_path, 1, ["vmware"])
    held.acquired("a", "provider/vmware", {"path": "/srv/vmware/disk"})
    assert "/srv/vmware/disk" in (tmp_path / "1" / "journal.jsonl").read_text()
    with pytest.raises(InvalidArgument):
        held.acquired("b", "provider/x", {"password": "vmware"})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("arx"), st.sampled_from("pqr")), max_size=30))
def test_the_journals_alone_tell_what_is_held(tmp_path_factory, steps):
    """a: acquire, r: release, x: the attempt dies and the next one starts."""
    folder = tmp_path_factory.mktemp("job")
    number, model = 1, set()
    held = resources(folder, number)
    for step, name in steps:
        if step == "a":
            held.acquired(name, "provider/x", {"id": name})
            model.add(name)
        elif step == "r":
            held.released(name)
            model.discard(name)
        else:
            number += 1
            held = resources(folder, number)
    assert set(held.outstanding()) == model
    assert set(of_earlier_attempts(folder, number + 1)) == model
    for journal in folder.rglob("journal.jsonl"):
        seqs = [json.loads(line)["seq"] for line in journal.read_text().splitlines()]
        assert seqs == list(range(1, len(seqs) + 1))
