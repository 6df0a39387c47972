"""The checkpoint file is the old state or the new one, never anything else."""

import errno
import json
import os

import pytest
from hypersdk.errors import DataLoss, InvalidArgument, ResourceExhausted
from hypersdk.runner.checkpoint import MAX_BYTES, CheckpointStore


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path)


def test_what_was_saved_last_is_loaded(store, tmp_path):
    assert store.load() is None
    assert store.exists() is False
    store.save({"a": 1})
    assert store.save({"a": [1, None, "ü"]}) == len(json.dumps({"a": [1, None, "ü"]}, separators=(",", ":")))
    assert CheckpointStore(tmp_path).load() == {"a": [1, None, "ü"]}
    assert os.listdir(tmp_path) == ["checkpoint.json"]
    assert os.stat(tmp_path / "checkpoint.json").st_mode & 0o777 == 0o600


def test_data_and_name_are_synced_in_that_order(store, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(sorted(os.listdir(tmp_path))))
    store.save({"a": 1})
    assert seen == [["checkpoint.json.new"], ["checkpoint.json"]]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_on_a_full_disk_the_former_state_stands(store, tmp_path, monkeypatch, step):
    store.save({"a": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(ResourceExhausted) as caught:
            store.save({"a": 2})
    assert (caught.value.reason, caught.value.retryable) == ("DISK_FULL", True)
    assert store.load() == {"a": 1}
    assert os.listdir(tmp_path) == ["checkpoint.json"]


@pytest.mark.parametrize("state", [{"a": object()}, {"a": float("inf")}, {"a": "x" * MAX_BYTES}])
def test_a_state_that_cannot_be_kept_is_refused(store, state):
    with pytest.raises(InvalidArgument) as caught:
        store.save(state)
    assert caught.value.reason == "CHECKPOINT_INVALID"
    assert store.load() is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_damaged_checkpoint_is_said_to_be_so(store, tmp_path, text):
    (tmp_path / "checkpoint.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataLoss) as caught:
        store.load()
    assert caught.value.reason == "CHECKPOINT_CORRUPT"
