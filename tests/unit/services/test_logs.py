"""Following a log that is still being written."""

import json

from hypersdk_kernel.services import logs


def line(number: int) -> bytes:
    return json.dumps({"event": f"e{number}"}).encode() + b"\n"


async def test_a_finished_log_is_read_to_its_end_without_the_half_line(tmp_path):
    (tmp_path / "log").write_bytes(line(1) + line(2) + b'{"event": "hal')
    assert [r["event"] async for r in logs.follow(tmp_path / "log", None)] == ["e1", "e2"]


async def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert [r async for r in logs.follow(tmp_path / "none", None)] == []


async def test_following_waits_for_the_rest_of_a_line_and_reads_what_came_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "POLL_S", 0)
    path = tmp_path / "log"
    steps = [lambda: path.write_bytes(line(1)[:5]), lambda: append(line(1)[5:]), lambda: append(line(2))]

    def append(data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    async def ended() -> bool:
        steps.pop(0)()
        return not steps

    assert [r["event"] async for r in logs.follow(path, ended)] == ["e1", "e2"]


async def test_what_is_no_record_becomes_one(tmp_path):
    (tmp_path / "log").write_bytes(b"plain text\n[1]\n\xff\xfe\n" + line(1))
    records = [r async for r in logs.follow(tmp_path / "log", None)]
    assert [r["event"] for r in records] == ["line_unreadable"] * 3 + ["e1"]
    assert records[0]["text"] == "plain text"


async def test_a_monstrous_line_is_skipped_with_a_note(tmp_path):
    (tmp_path / "log").write_bytes(b"x" * (logs.MAX_LINE_BYTES * 2) + b"\n" + line(1))
    assert [r["event"] async for r in logs.follow(tmp_path / "log", None)] == ["line_skipped", "e1"]


async def test_a_log_of_many_chunks_is_whole(tmp_path):
    (tmp_path / "log").write_bytes(b"".join(map(line, range(20_000))))
    assert [r["event"] async for r in logs.follow(tmp_path / "log", None)] == [f"e{n}" for n in range(20_000)]
