"""What a kernel keeps of an attempt that runs elsewhere: whole, in order, and nothing after its end."""

import base64
import hashlib
import json

import pytest
from hypersdk.errors import Aborted, InvalidArgument
from hypersdk_kernel.engine.mirror import MAX_CHECKPOINT_BYTES, Mirror
from hypersdk_kernel.engine.rundir import RunDir
from hypothesis import given
from hypothesis import strategies as st

CHUNK = 1000


@pytest.fixture
def rundir(tmp_path):
    made = RunDir(tmp_path, "u")
    made.prepare(1)
    return made


@pytest.fixture
def mirror(rundir):
    return Mirror(rundir, 1, 10_000)


def record(seq, kind="progress", **fields):
    return {"seq": seq, "time": 0.0, "type": kind, **fields}


def pieces(data, size=CHUNK):
    for offset in range(0, len(data), size):
        yield {
            "offset": offset, "total": len(data), "sha256": hashlib.sha256(data).hexdigest(),
            "data": base64.b64encode(data[offset : offset + size]).decode(),
        }  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), max_size=12))
def test_whatever_is_sent_again_the_journal_has_each_record_once(tmp_path_factory, spans):
    """Agents send from what they think is there: parts come twice, after a gap, or not at all."""
    rundir = RunDir(tmp_path_factory.mktemp("m"), "u")
    rundir.prepare(1)
    mirror = Mirror(rundir, 1, 10_000)
    for start, count in spans:
        before = mirror.seq
        if start > before:
            with pytest.raises(InvalidArgument):
                mirror.append([record(n) for n in range(start + 1, start + count + 1)])
            assert mirror.seq == before
        else:
            assert mirror.append([record(n) for n in range(start + 1, start + count + 1)]) == max(before, start + count)
    path = rundir.attempt(1) / "journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, mirror.seq + 1))


def test_a_kernel_that_was_killed_in_a_line_goes_on_before_it(rundir, mirror):
    mirror.append([record(1, "started"), record(2)])
    with (rundir.attempt(1) / "journal.jsonl").open("ab") as file:
        file.write(b'{"seq": 3, "type": "finis')
    again = Mirror(rundir, 1, 10_000)
    assert again.seq == 2
    assert again.append([record(3, "finished", status="succeeded")]) == 3
    assert rundir.journal(1).finished["status"] == "succeeded"


@pytest.mark.parametrize(
    "bad", [None, 1, [], {"seq": "1", "type": "x"}, {"seq": True, "type": "x"}, {"seq": 1}, {"seq": 1, "type": 3},
            {"seq": 1, "type": "x", "text": "y" * (3 << 20)}],
)  # fmt: skip
def test_what_is_no_record_is_refused(mirror, bad):
    with pytest.raises(InvalidArgument):
        mirror.append([bad])
    assert mirror.seq == 0


def test_after_the_fence_nothing_is_written(rundir, mirror):
    mirror.append([record(1, "started")])
    mirror.fence()
    calls = [
        lambda: mirror.append([record(2, "finished", status="succeeded")]),
        lambda: mirror.checkpoint(next(pieces(b"{}"))),
        lambda: mirror.log({"name": "log", "data": ""}),
        mirror.enrol,
    ]
    for call in calls:
        with pytest.raises(Aborted) as caught:
            call()
        assert (caught.value.reason, caught.value.retryable) == ("ATTEMPT_NOT_LIVE", False)
    assert rundir.journal(1).finished is None
    assert mirror.checkpoint_size() is None


def test_a_token_is_taken_once_and_that_outlives_the_kernel(rundir, mirror):
    assert not mirror.enrolled
    assert mirror.enrol()
    assert not mirror.enrol()
    again = Mirror(rundir, 1, 10_000)
    assert again.enrolled
    assert not again.enrol()


def test_a_checkpoint_is_placed_whole_or_not_at_all(rundir, mirror):
    first, second = b'{"n":1}' * 500, b'{"n":2}' * 700
    for piece in pieces(first):
        mirror.checkpoint(piece)
    for piece in list(pieces(second))[:-1]:
        mirror.checkpoint(piece)
    assert (rundir.path / "checkpoint.json").read_bytes() == first
    for piece in pieces(second):  # the connection broke; it begins again
        mirror.checkpoint(piece)
    assert (rundir.path / "checkpoint.json").read_bytes() == second
    assert base64.b64decode(mirror.read_checkpoint(0)) == second
    assert base64.b64decode(mirror.read_checkpoint(len(second))) == b""


@pytest.mark.parametrize(
    "change",
    [{"offset": 5}, {"offset": -1}, {"offset": "0"}, {"total": 0}, {"total": MAX_CHECKPOINT_BYTES + 1}, {"total": 1},
     {"total": "9"}, {"sha256": "00"}, {"data": ""}, {"data": "*"}, {"data": None}],
)  # fmt: skip
def test_a_wrong_checkpoint_is_refused_and_leaves_the_old_one(rundir, mirror, change):
    for piece in pieces(b"old"):
        mirror.checkpoint(piece)
    (piece,) = pieces(b"new content")
    with pytest.raises(InvalidArgument) as caught:
        mirror.checkpoint({**piece, **change})
    assert caught.value.reason == "CHECKPOINT_INVALID"
    assert (rundir.path / "checkpoint.json").read_bytes() == b"old"


def test_logs_are_bounded_and_say_so(rundir):
    mirror = Mirror(rundir, 1, 500)
    line = json.dumps({"time": 1, "level": "info", "event": "x" * 60, "fields": {}}).encode() + b"\n"
    for _ in range(100):
        mirror.log({"name": "log", "data": base64.b64encode(line).decode()})
    lines = (rundir.attempt(1) / "log.jsonl").read_bytes().splitlines()
    assert sum(map(len, lines)) < 800
    assert json.loads(lines[-1])["event"] == "log_cut"
    assert all(json.loads(text) for text in lines)


@pytest.mark.parametrize("name", ["journal", "../x", "", "checkpoint", None])
def test_only_logs_are_logs(mirror, name):
    with pytest.raises(InvalidArgument):
        mirror.log({"name": name, "data": ""})
