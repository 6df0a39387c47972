"""What a runner leaves on disk, read back whole or torn."""

import json

from hypersdk_kernel.engine.rundir import RunDir


def write(rundir, number, *records, tail=""):
    rundir.prepare(number)
    lines = [json.dumps({"seq": i, "time": 0.0, **r}) for i, r in enumerate(records, 1)]
    (rundir.attempt(number) / "journal.jsonl").write_text("".join(line + "\n" for line in lines) + tail)


def test_a_torn_last_line_is_not_there(tmp_path):
    rundir = RunDir(tmp_path, "u")
    write(rundir, 1, {"type": "started", "pid": 7}, tail='{"seq": 2, "type": "finished", "status": "succeeded"}')
    journal = rundir.journal(1)
    assert journal.started["pid"] == 7
    assert journal.finished is None
    assert journal.last_seq == 1


def test_nothing_after_a_damaged_line_counts(tmp_path):
    rundir = RunDir(tmp_path, "u")
    write(rundir, 1, {"type": "started"},
          tail='garbage\n{"seq": 3, "time": 0, "type": "finished", "status": "failed"}\n')
    assert rundir.journal(1).finished is None


def test_what_one_attempt_acquired_and_a_later_one_released_is_not_outstanding(tmp_path):
    rundir = RunDir(tmp_path, "u")
    held = {"type": "acquired", "component": "storage/local", "record": {"key": "a"}}
    write(rundir, 1, held | {"resource_id": "a"}, held | {"resource_id": "b"}, held | {"resource_id": "c"})
    write(rundir, 2, {"type": "released", "resource_id": "a"}, held | {"resource_id": "d"},
          {"type": "released", "resource_id": "d"}, {"type": "released", "resource_id": "c"},
          held | {"resource_id": "c"})  # fmt: skip
    assert set(rundir.outstanding(2)) == {"b", "c"}
    assert rundir.outstanding(2)["b"] == {"component": "storage/local", "record": {"key": "a"}}


def test_the_lock_is_held_by_one_at_a_time_and_a_socket_works_however_deep_the_folder(tmp_path):
    deep = tmp_path.joinpath(*["d" * 60] * 3)
    rundir = RunDir(deep, "u")
    rundir.prepare(1)
    fd = rundir.lock()
    assert fd is not None
    assert rundir.lock() is None
    assert rundir.alive()
    import os

    os.close(fd)
    assert not rundir.alive()
    with rundir.listen(1) as listener, rundir.connect(1) as client:
        server, _ = listener.accept()
        with server:
            client.setblocking(True)
            client.sendall(b"x")
            assert server.recv(1) == b"x"
