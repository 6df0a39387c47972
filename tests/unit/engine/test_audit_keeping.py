"""The audit trail is bounded, and what leaves the database is still part of one chain that can be proved."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypersdk.api.audit.v1 import audit_pb2 as pb
from hypersdk.auditchain import Walk, archived
from hypersdk.errors import DataLoss, Unavailable
from hypersdk_kernel.engine import auditkeeping
from hypersdk_kernel.engine.auditkeeping import AuditKeeping, Kept
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.services.audit import AuditService
from hypersdk_kernel.services.call import Call
from hypersdk_kernel.store import audit
from hypersdk_kernel.store.auditarchive import AuditArchive
from hypersdk_kernel.store.engine import Store
from sqlalchemy import text

CALL = Call("local", None, 60.0)


class Trail:
    """A store, and an archive beside it."""

    def __init__(self, store, clock, folder):
        self.store, self.clock, self.folder = store, clock, folder
        folder.mkdir(exist_ok=True)

    def keeping(self, rows=3, for_s=0.0, store=None, file_bytes=1 << 20):
        archive = AuditArchive(self.folder, file_bytes)
        return AuditKeeping(store or self.store, self.clock, archive, Kept(rows, for_s))

    async def fill(self, count):
        for number in range(count):
            await self.store.write(lambda tx, n=number: tx.audit("thing.done", f"things/{n}", "me", details={"ü": n}))

    async def seqs(self):
        return [entry.seq for entry in await self.store.read(lambda conn: audit.page(conn, 0))]

    async def change(self, *statements):
        await self.store.write(lambda tx: [tx.conn.execute(text(each)) for each in statements])

    async def verify(self, **asked):
        service = AuditService(self.store, self.folder)
        return await service.verify_audit_chain(pb.VerifyAuditChainRequest(**asked), CALL)


@pytest.fixture
async def trail(database, tmp_path):
    clock = ManualClock()
    store = await Store.open(database.backend(), clock)
    yield Trail(store, clock, tmp_path / "audit")
    await store.close()


@pytest.fixture
async def here(tmp_path):
    """On SQLite alone, for what does not depend on the database."""
    clock = ManualClock()
    store = await Store.open(tmp_path / "state.db", clock)
    yield Trail(store, clock, tmp_path / "audit")
    await store.close()


def lines(folder):
    return [json.loads(line)["seq"] for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]


async def test_what_is_more_than_is_kept_is_archived_and_the_chain_goes_on_from_there(trail):
    await trail.fill(10)
    before = await trail.verify()
    assert await trail.keeping().sweep() == 7
    assert await trail.keeping().sweep() == 0
    assert (await trail.seqs(), lines(trail.folder)) == ([8, 9, 10], [1, 2, 3, 4, 5, 6, 7])
    rest, whole = await trail.verify(), await trail.verify(archives=True)
    assert (rest.ok, rest.first_seq, rest.verified_count) == (True, 8, 3)
    assert (whole.ok, whole.first_seq, whole.verified_count) == (True, 1, 10)
    assert (whole.head_seq, whole.head_hash) == (before.head_seq, before.head_hash)
    await trail.fill(2)
    assert await trail.keeping(rows=1).sweep() == 4
    assert (await trail.verify()).ok
    assert (await trail.verify(archives=True)).verified_count == 12


async def test_what_is_older_than_is_kept_is_archived(trail):
    await trail.fill(4)
    trail.clock.advance(100.0)
    await trail.fill(2)
    trail.clock.advance(50.0)
    assert await trail.keeping(rows=0, for_s=120.0).sweep() == 4
    assert await trail.seqs() == [5, 6]
    assert await trail.keeping(rows=0, for_s=0.0).sweep() == 0


async def test_everything_may_go_and_the_numbers_go_on(here):
    await here.fill(3)
    here.clock.advance(10.0)
    assert await here.keeping(rows=0, for_s=5.0).sweep() == 3
    assert (await here.verify()).ok
    await here.fill(1)
    assert await here.seqs() == [4]
    assert (await here.verify(archives=True)).verified_count == 4


async def test_an_entry_that_was_changed_is_not_buried_in_the_archive(here):
    await here.fill(10)
    await here.change("UPDATE audit SET actor = 'nobody' WHERE seq = 4")
    assert await here.keeping().sweep() == 3
    assert await here.seqs() == [4, 5, 6, 7, 8, 9, 10]
    answer = await here.verify()
    assert (answer.ok, answer.first_bad_seq) == (False, 4)


def edited(rows):
    rows[2] = rows[2].replace(b"things/2", b"things/9")


def cut(rows):
    del rows[5:]


@pytest.mark.parametrize(
    ("tamper", "bad"),
    [(edited, 3), (lambda rows: rows.pop(4), 5), (lambda rows: rows.reverse(), 1), (cut, 6),
     (lambda rows: rows.clear(), 1),
     (lambda rows: rows.insert(1, b"nonsense\n"), 2), (lambda rows: rows.__setitem__(6, rows[6][:-1]), 7),
     (lambda rows: rows.__setitem__(slice(1, 3), [rows[2], rows[1]]), 2)],
)  # fmt: skip
async def test_an_archive_that_was_touched_is_found_and_the_first_bad_entry_named(here, tamper, bad):
    await here.fill(10)
    await here.keeping().sweep()
    (file,) = here.folder.iterdir()
    rows = file.read_bytes().splitlines(keepends=True)
    tamper(rows)
    file.write_bytes(b"".join(rows))
    answer = await here.verify(archives=True)
    assert (answer.ok, answer.first_bad_seq) == (False, bad), answer


@pytest.mark.parametrize(
    ("statements", "bad"),
    [
        (["DELETE FROM audit WHERE seq = 8"], 8),
        (["DELETE FROM audit WHERE seq = 9"], 9),
        (["UPDATE audit SET outcome = 'x' WHERE seq = 10"], 10),
        (["DELETE FROM audit_head WHERE id = 2"], 1),
        (["UPDATE audit_head SET seq = 6 WHERE id = 2"], 7),
        (["DELETE FROM audit WHERE seq = 8", "UPDATE audit_head SET seq = 8 WHERE id = 2"], 9),
        (["INSERT INTO audit SELECT 2, time, actor, action, subject, outcome, details, prev_hash, hash FROM audit "
          "WHERE seq = 8"], 2),
    ],
)  # fmt: skip
async def test_rows_touched_behind_the_archive_are_named(here, statements, bad):
    await here.fill(10)
    await here.keeping().sweep()
    await here.change(*statements)
    answer = await here.verify()
    assert (answer.ok, answer.first_bad_seq) == (False, bad), answer


async def test_rows_dropped_with_the_anchor_changed_to_fit_are_found_where_the_archive_is_read(here):
    await here.fill(10)
    await here.keeping().sweep()
    digest = (await here.store.read(lambda conn: audit.page(conn, 8, 1)))[0].hash
    await here.change(
        "DELETE FROM audit WHERE seq < 10", f"UPDATE audit_head SET seq = 9, hash = '{digest}' WHERE id = 2"
    )
    assert (await here.verify()).ok, "nothing inside the database can know"
    answer = await here.verify(archives=True)
    assert (answer.ok, answer.first_bad_seq) == (False, 8)


async def test_an_anchor_that_was_noted_down_and_then_archived_still_counts(here):
    await here.fill(5)
    noted = await here.verify()
    await here.fill(5)
    await here.keeping().sweep()
    assert (await here.verify(anchor_seq=5, anchor_hash=noted.head_hash)).verified_count == 10
    answer = await here.verify(anchor_seq=5, anchor_hash="a" * 64)
    assert (answer.ok, answer.first_bad_seq) == (False, 5)


class Dying:
    """A store that is lost when something is to be written."""

    def __init__(self, store):
        self.read = store.read

    async def write(self, fn):
        raise Unavailable("gone", reason="STORE_UNAVAILABLE")


async def test_a_crash_between_the_archive_and_the_database_loses_and_doubles_nothing(trail):
    await trail.fill(10)
    with pytest.raises(Unavailable):
        await trail.keeping(store=Dying(trail.store)).sweep()
    assert (len(await trail.seqs()), lines(trail.folder)) == (10, [1, 2, 3, 4, 5, 6, 7])
    for asked in ({}, {"archives": True}):
        assert (await trail.verify(**asked)).verified_count == 10
    await trail.fill(2)
    assert await trail.keeping().sweep() == 9
    assert lines(trail.folder) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (await trail.verify(archives=True)).ok


async def test_a_crash_in_the_middle_of_a_line_is_mended(here):
    await here.fill(10)
    with pytest.raises(Unavailable):
        await here.keeping(store=Dying(here.store)).sweep()
    (file,) = here.folder.iterdir()
    whole = file.read_bytes()
    for size in {0, 1, len(whole) // 2, len(whole) - 1, whole.rindex(b"\n", 0, -1) + 1, whole.index(b"\n")}:
        file.write_bytes(whole[:size])
        with pytest.raises(Unavailable):
            await here.keeping(store=Dying(here.store)).sweep()
        assert file.read_bytes() == whole


async def test_a_full_file_is_followed_by_another_named_by_its_first_entry(here):
    keeping = here.keeping(file_bytes=600)
    for _ in range(4):
        await here.fill(3)
        await keeping.sweep()
    names = sorted(file.name for file in here.folder.iterdir())
    assert len(names) > 1
    assert names[0] == "audit-000000000001.jsonl"
    assert (await here.verify(archives=True)).verified_count == 12


async def test_archives_of_kernels_that_took_over_from_each_other_are_one_chain(trail, tmp_path):
    await trail.fill(6)
    with pytest.raises(Unavailable):  # the first kernel is replaced before it has dropped them
        await trail.keeping(store=Dying(trail.store)).sweep()
    other = Trail(trail.store, trail.clock, tmp_path / "other")
    await trail.fill(4)
    await other.keeping().sweep()
    await trail.fill(4)
    await trail.keeping().sweep()
    assert lines(trail.folder) == [1, 2, 3, 8, 9, 10, 11]
    assert lines(other.folder) == [1, 2, 3, 4, 5, 6, 7]
    walk = Walk()
    assert all(walk.step(entry) for entry in archived([trail.folder, other.folder]))
    assert walk.seq == 11
    assert not all(Walk().step(entry) for entry in archived([trail.folder]))


@pytest.mark.parametrize("batch", [2, 1000])
async def test_what_a_database_from_a_backup_tells_anew_is_not_taken_for_what_was_archived(here, batch, monkeypatch):
    await here.fill(10)
    await here.keeping().sweep()
    here.clock.advance(1.0)
    await here.change("DELETE FROM audit", "DELETE FROM audit_head")
    await here.fill(12)
    monkeypatch.setattr(auditkeeping, "BATCH", batch)
    with pytest.raises(DataLoss) as refused:
        await here.keeping().sweep()
    assert refused.value.reason == "AUDIT_ARCHIVE_DIFFERS"
    assert len(await here.seqs()) == 12


async def test_two_leaders_that_archive_at_once_drop_each_entry_once(trail, tmp_path):
    await trail.fill(30)
    other = Trail(trail.store, trail.clock, tmp_path / "other")
    await asyncio.gather(trail.keeping().sweep(), other.keeping().sweep())
    assert await trail.seqs() == [28, 29, 30]
    walk = Walk()
    assert all(walk.step(entry) for entry in archived([trail.folder, other.folder]))
    assert walk.seq == 27


ENDLESS = """
import asyncio, pathlib, sys
from hypersdk_kernel.engine import auditkeeping
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.store.auditarchive import AuditArchive
from hypersdk_kernel.store.engine import Store

auditkeeping.BATCH = 3

async def main(folder):
    store = await Store.open(folder / "state.db", SystemClock())
    archive = AuditArchive(folder / "audit", 2000)
    keeping = auditkeeping.AuditKeeping(store.leading, SystemClock(), archive, auditkeeping.Kept(5, 0.0))
    while True:
        await asyncio.gather(*(store.write(lambda tx: tx.audit("a.b", "s", "local")) for _ in range(7)))
        await keeping.sweep()
        print("round", flush=True)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


async def test_kill_9_at_any_moment_leaves_one_whole_chain(tmp_path):
    (tmp_path / "audit").mkdir()
    chance = random.Random(11)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, tmp_path], stdout=subprocess.PIPE)
        assert process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))  # the moment is the point
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    store = await Store.open(tmp_path / "state.db", ManualClock())
    try:
        trail = Trail(store, ManualClock(), tmp_path / "audit")
        await trail.keeping(rows=5).sweep()
        head = await store.read(audit.head)
        assert (await trail.verify(archives=True)).verified_count == head[0] > 40
        assert lines(trail.folder) == list(range(1, head[0] - 4))
    finally:
        await store.close()
