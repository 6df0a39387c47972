"""An attempt's logs are bounded, and read as one though they are several files."""

import json
import os
import subprocess
import sys
import threading

from hypersdk.runner.log import AttemptLog, rotated
from hypersdk.runner.output import OutputGuard
from hypersdk.wire.redact import Redactor
from hypersdk_kernel.services import logs
from hypersdk_kernel.services.logfiles import LogFiles
from hypothesis import given, settings
from hypothesis import strategies as st


def make(folder, file_bytes=1000, files=3):
    return AttemptLog(folder / "log.jsonl", Redactor(), lambda: 1.0, file_bytes=file_bytes, files=files)


def disk_use(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def events(data):
    return [json.loads(line)["fields"]["n"] for line in data.splitlines() if b'"n"' in line]


def read_all(files):
    data = b""
    while chunk := files.read(333):
        data += chunk
    return data


def test_a_log_without_end_keeps_its_last_files(tmp_path):
    log = make(tmp_path)
    for number in range(1000):
        log.write("line", "info", {"n": number})
    assert disk_use(tmp_path) < 3 * 1200
    assert len(rotated(tmp_path)) == 2
    kept = events(read_all(LogFiles(tmp_path / "log.jsonl")))
    assert kept == list(range(kept[0], 1000))


def test_a_line_says_what_was_dropped(tmp_path):
    log = make(tmp_path)
    for number in range(100):
        log.write("line", "info", {"n": number})
    first = json.loads(read_all(LogFiles(tmp_path / "log.jsonl")).splitlines()[0])
    assert first["event"] == "log_rotated"
    assert first["fields"]["dropped_files"] >= 1 or rotated(tmp_path)[0] == 1
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert (last["level"], last["fields"]["dropped_files"] > 0) == ("warning", True)


def test_one_file_is_enough_of_them(tmp_path):
    log = make(tmp_path, files=1)
    for number in range(200):
        log.write("line", "info", {"n": number})
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    assert disk_use(tmp_path) < 1200


def test_an_attempt_that_goes_on_counts_what_is_there(tmp_path):
    make(tmp_path).write("line", "info", {"n": 1, "text": "x" * 1100})
    make(tmp_path).write("line", "info", {"n": 2})
    assert rotated(tmp_path) == [1]


def test_a_disk_that_takes_nothing_fails_no_task(tmp_path, monkeypatch):
    log = make(tmp_path)
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    log.write("line", "info", {"n": 1})


def test_threads_do_not_tear_lines(tmp_path):
    log = make(tmp_path, file_bytes=5000, files=100)
    threads = [
        threading.Thread(target=lambda t=t: [log.write("line", "info", {"n": t * 1000 + i}) for i in range(200)])
        for t in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(events(read_all(LogFiles(tmp_path / "log.jsonl"))))) == 800


def test_a_reader_that_keeps_up_misses_nothing_across_rotations(tmp_path):
    log, files, found = make(tmp_path, files=2), LogFiles(tmp_path / "log.jsonl"), b""
    assert files.read(100) != b"" or found == b""
    for number in range(500):
        log.write("line", "info", {"n": number})
        found += read_all(files)
    assert events(found) == list(range(500))
    files.close()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=20), st.integers(1, 4))
def test_a_reader_sees_what_is_kept_in_order_and_nothing_twice(steps, files):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, reader, found, number = make(folder, 600, files), LogFiles(folder / "log.jsonl"), b"", 0
        for count, look in steps:
            for _ in range(count):
                log.write("line", "info", {"n": number})
                number += 1
            if look:
                found += read_all(reader)
        found += read_all(reader)
        seen = events(found)
        assert seen == sorted(set(seen))
        if number:
            assert seen[-1] == number - 1
        reader.close()


async def test_a_stream_follows_across_rotations(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "POLL_S", 0)
    log, numbers = make(tmp_path, files=3), iter(range(300))

    async def ended():
        for _ in range(5):
            number = next(numbers, None)
            if number is None:
                return True
            log.write("line", "info", {"n": number})
        return False

    seen = [r["fields"]["n"] async for r in logs.follow(tmp_path / "log.jsonl", ended) if r["event"] == "line"]
    assert seen == list(range(300))


# What is printed


def test_output_is_emptied_and_its_last_part_kept(tmp_path):
    path = tmp_path / "output.log"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    guard = OutputGuard(path, 10_000, 3)
    for number in range(50):
        os.write(fd, b"%07d\n" % number * 500)
        guard.look()
    assert disk_use(tmp_path) < 4 * 10_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["output.1.log", "output.2.log", "output.log"]
    assert path.read_text().startswith("[hypersdk: output.log was full; ")
    assert b"0000049\n" in path.read_bytes() + (tmp_path / "output.1.log").read_bytes()
    os.close(fd)


def test_a_program_that_prints_gigabytes_does_not_fill_the_disk(tmp_path):
    """Through the descriptor, as a C library or a child process does, with nobody asking before it writes."""
    path = tmp_path / "output.log"
    guard = OutputGuard(path, 1 << 20, 2)
    guard.start()
    with path.open("ab") as file:
        script = "import sys\nfor _ in range(2048): sys.stdout.buffer.write(b'x' * 1048575 + b'\\n')"
        process = subprocess.Popen([sys.executable, "-c", script], stdout=file)
        most = 0
        while process.poll() is None:
            most = max(most, disk_use(tmp_path))
            threading.Event().wait(0.01)
    guard.look()
    guard.stop()
    assert process.returncode == 0
    assert disk_use(tmp_path) <= 3 << 20
    assert most < 2 << 30, "less than was printed"


def test_a_full_disk_still_empties_the_file(tmp_path, monkeypatch):
    path = tmp_path / "output.log"
    path.write_bytes(b"x" * 5000)
    guard = OutputGuard(path, 1000, 2)
    monkeypatch.setattr(guard, "_keep", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    guard.look()
    assert path.stat().st_size < 200


def test_a_link_in_its_place_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_bytes(b"x" * 5000)
    (tmp_path / "output.log").symlink_to(target)
    guard = OutputGuard(tmp_path / "output.log", 10, 2)
    guard.look()
    assert target.stat().st_size == 5000
