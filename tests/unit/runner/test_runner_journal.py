"""The journal: what is committed is there whole, what failed is not there at all."""

import errno
import json
import os

import pytest
from hypersdk.errors import Internal, ResourceExhausted
from hypersdk.runner.journal import Journal, read_records
from hypersdk.wire.redact import Redactor
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def opened(path, *secrets):
    return Journal(path, Redactor(secrets), clock=lambda: 12.5)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fail(monkeypatch, name, error, after_bytes=0):
    """Let `os.<name>` fail; writes first let `after_bytes` through, as a disk that becomes full does."""
    real = getattr(os, name)

    def failing(fd, *args):
        if name == "pwrite" and after_bytes:
            real(fd, bytes(args[0])[:after_bytes], args[1])
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, name, failing)


def test_records_are_numbered_and_dated(path):
    journal = opened(path)
    assert journal.append("started", {"pid": 1}) == 1
    assert journal.append("finished", {"status": "succeeded"}, sync=True) == 2
    assert lines(path) == [
        {"seq": 1, "time": 12.5, "type": "started", "pid": 1},
        {"seq": 2, "time": 12.5, "type": "finished", "status": "succeeded"},
    ]


def test_only_synced_records_are_synced(path, monkeypatch):
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(path.read_bytes().count(b"\n")), real(fd)))
    journal = opened(path)
    journal.append("progress", {})
    assert synced == []
    journal.append("acquired", {}, sync=True)
    assert synced == [2]  # and the line was in the file before


@pytest.mark.parametrize(("name", "partly"), [("pwrite", 0), ("pwrite", 7), ("fdatasync", 0)])
def test_on_a_full_disk_the_record_is_taken_back_and_the_error_can_be_retried(path, monkeypatch, name, partly):
    journal = opened(path)
    journal.append("started", {})
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        fail(patch, name, errno.ENOSPC, partly)
        with pytest.raises(ResourceExhausted) as caught:
            journal.append("acquired", {"resource_id": "a"}, sync=True)
    assert (caught.value.reason, caught.value.retryable) == ("DISK_FULL", True)
    assert path.read_bytes() == before
    assert journal.seq == 1
    assert journal.append("finished", {}) == 2
    assert [r["seq"] for r in lines(path)] == [1, 2]


def test_a_record_that_is_no_json_or_too_large_is_refused(path):
    journal = opened(path)
    with pytest.raises(Internal) as caught:
        journal.append("progress", {"x": object()})
    assert caught.value.reason == "RECORD_NOT_JSON"
    with pytest.raises(ResourceExhausted) as too_large:
        journal.append("finished", {"x": "y" * (3 << 20)})
    assert too_large.value.reason == "RECORD_TOO_LARGE"
    assert path.read_bytes() == b""


def test_secrets_are_taken_out_unless_the_record_is_verbatim(path):
    journal = opened(path, "hunter2!")
    journal.append("finished", {"error": {"message": "hunter2!"}})
    journal.append("acquired", {"resource_id": "hunter2!-disk"}, verbatim=True)
    assert [r.get("error") or r["resource_id"] for r in lines(path)] == [{"message": "[redacted]"}, "hunter2!-disk"]


def test_an_existing_journal_goes_on_after_its_last_whole_line(path):
    opened(path).append("started", {})
    with path.open("ab") as file:
        file.write(b'{"seq":2,"type":"acqui')
    journal = opened(path)
    assert journal.append("finished", {}) == 2
    assert [r["type"] for r in lines(path)] == ["started", "finished"]


def test_reading_goes_on_from_where_it_stopped(path):
    journal = opened(path)
    journal.append("a", {})
    first, offset = journal.read_from(0)
    journal.append("b", {})
    second, end = journal.read_from(offset)
    assert [r["type"] for r in first + second] == ["a", "b"]
    assert journal.read_from(end) == ([], end)


def test_only_whole_records_of_the_wanted_types_are_read_back(path):
    path.write_bytes(
        b'{"seq":1,"type":"started"}\nnoise "type":"acquired"\n{"seq":2,"type":"acquired","resource_id":"a"}\n'
        b'[{"type":"acquired"}]\n{"seq":3,"type":"note","text":"\\"type\\":\\"acquired\\""}\n{"seq":4,"type":"acquired"}'
    )
    assert [r["seq"] for r in read_records(path, "acquired")] == [2]
    assert list(read_records(path.with_name("none"), "acquired")) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_a_journal_is_cut_off_its_whole_lines_are_the_truth(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    texts = data.draw(st.lists(st.text(max_size=20), min_size=1, max_size=6))
    journal = opened(path)
    for text in texts:
        journal.append("acquired", {"resource_id": text})
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    survived = whole[:cut].count(b"\n")
    assert [r["resource_id"] for r in read_records(path, "acquired")] == texts[:survived]
    assert opened(path).append("finished", {}) == survived + 1
