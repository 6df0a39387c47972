"""The audit trail: in the transaction of the change, one chain, and whoever touches it is named by row."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypersdk.api.audit.v1 import audit_pb2 as pb
from hypersdk.auditchain import GENESIS, AuditEntry, fault
from hypersdk.errors import InvalidArgument
from hypersdk_kernel.model.audit import AuditNote
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.services.audit import AuditService
from hypersdk_kernel.services.call import Call
from hypersdk_kernel.store import audit
from hypersdk_kernel.store.engine import Store
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

CALL = Call("local", None, 60.0)
NOWHERE = Path("/nonexistent")


@pytest.fixture
async def store(database):
    opened = await Store.open(database.backend(), ManualClock())
    yield opened
    await opened.close()


async def filled(store, count=10):
    for number in range(count):
        await store.write(lambda tx, n=number: tx.audit("thing.done", f"things/{n}", "local", details={"n": n}))


async def verified(store, **anchor):
    return await AuditService(store, NOWHERE).verify_audit_chain(pb.VerifyAuditChainRequest(**anchor), CALL)


async def tampered(store, *statements):
    await store.write(lambda tx: [tx.conn.execute(text(s)) for s in statements])


async def test_a_chain_nobody_touched_is_whole(store):
    await filled(store)
    answer = await verified(store)
    assert (answer.ok, answer.verified_count, answer.head_seq, answer.problem) == (True, 10, 10, "")


async def test_an_empty_trail_is_whole(store):
    assert (await verified(store)).ok


@pytest.mark.parametrize(
    ("statements", "first_bad", "says"),
    [
        (["UPDATE audit SET actor = 'nobody' WHERE seq = 4"], 4, "not what was hashed"),
        (["UPDATE audit SET outcome = 'OK ' WHERE seq = 1"], 1, "not what was hashed"),
        (["UPDATE audit SET time = time + 1 WHERE seq = 7"], 7, "not what was hashed"),
        (["UPDATE audit SET details = '{\"n\": 3}' WHERE seq = 4"], 4, "not what was hashed"),
        (["UPDATE audit SET hash = prev_hash WHERE seq = 10"], 10, "not what was hashed"),
        (["UPDATE audit SET prev_hash = 'zz' WHERE seq = 3"], 3, "does not follow"),
        (["DELETE FROM audit WHERE seq = 5"], 5, "missing"),
        (["DELETE FROM audit WHERE seq = 1"], 1, "missing"),
        (["DELETE FROM audit WHERE seq > 7"], 8, "missing"),
        (["DELETE FROM audit"], 1, "missing"),
        (["UPDATE audit SET seq = 99 WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4",
          "UPDATE audit SET seq = 4 WHERE seq = 99"], 3, "does not follow"),
        (["INSERT INTO audit SELECT 11, time, actor, action, subject, outcome, details, prev_hash, hash FROM audit "
          "WHERE seq = 10"], 11, "nothing but the trail"),
        (["DELETE FROM audit WHERE seq = 10", "UPDATE audit_head SET seq = 9"], 9, "not the newest"),
    ],
)  # fmt: skip
async def test_rows_that_were_edited_deleted_swapped_cut_off_or_added_are_named(store, statements, first_bad, says):
    await filled(store)
    await tampered(store, *statements)
    answer = await verified(store)
    assert (answer.ok, answer.first_bad_seq) == (False, first_bad)
    assert says in answer.problem


async def test_writing_goes_on_behind_a_chain_that_was_cut_and_the_gap_is_still_named(store):
    await filled(store)
    await tampered(store, "DELETE FROM audit WHERE seq > 7")
    await filled(store, 3)
    answer = await verified(store)
    assert (answer.ok, answer.first_bad_seq, answer.head_seq) == (False, 8, 13)


async def test_a_chain_written_anew_is_found_by_a_hash_noted_down_elsewhere(store):
    await filled(store)
    before = await verified(store)
    await tampered(store, "DELETE FROM audit", f"UPDATE audit_head SET seq = 0, hash = '{GENESIS}'")
    await filled(store, 12)
    assert not (await verified(store, anchor_seq=before.head_seq, anchor_hash="a" * 64)).ok
    forged = await verified(store)
    assert forged.ok, "nothing inside the database can know"
    await tampered(store, "DELETE FROM audit", f"UPDATE audit_head SET seq = 0, hash = '{GENESIS}'")
    await filled(store, 5)
    answer = await verified(store, anchor_seq=before.head_seq, anchor_hash=before.head_hash)
    assert (answer.ok, answer.first_bad_seq) == (False, 6)


async def test_a_change_that_fails_leaves_no_row_and_its_neighbours_theirs(store):
    def failing(tx):
        tx.audit("thing.done", "things/bad", "local")
        raise InvalidArgument("no")

    results = await asyncio.gather(filled(store, 2), store.write(failing), filled(store, 2), return_exceptions=True)
    assert isinstance(results[1], InvalidArgument)
    entries = await store.read(lambda conn: audit.page(conn, 0))
    assert [e.subject for e in entries].count("things/bad") == 0
    assert len(entries) == 4
    assert (await verified(store)).ok


async def test_the_first_write_of_a_call_has_its_row_and_the_next_none(store):
    audit.current.set(call := audit.AuditedCall("token", "JobService.CreateJob", ""))
    await store.write(lambda tx: tx.emit("job.created", "jobs/x", "token", {}))
    await store.write(lambda tx: tx.emit("job.queued", "jobs/x", "token", {}))
    [entry] = await store.read(lambda conn: audit.page(conn, 0))
    assert (entry.actor, entry.action) == ("token", "JobService.CreateJob")
    assert (entry.subject, entry.outcome) == ("jobs/x", "OK")
    assert entry.details == '{"events":["job.created"]}'
    assert call.written


async def test_what_runs_on_after_its_call_was_answered_is_not_its_doing(store):
    audit.current.set(audit.AuditedCall("token", "JobService.CreateJob", "", over=True))
    await store.write(lambda tx: tx.emit("job.started", "jobs/x", "kernel", {}))
    assert await store.read(lambda conn: audit.page(conn, 0)) == []


async def test_the_trail_is_exported_in_parts_and_listed_newest_first_with_a_filter(store):
    await filled(store, 2500)
    service = AuditService(store, NOWHERE)
    parts = [len(p.audit_entries) async for p in service.export_audit_entries(pb.ExportAuditEntriesRequest(), CALL)]
    assert parts == [1000, 1000, 500]
    request = pb.ListAuditEntriesRequest(page_size=2, order_by="seq desc", filter='subject = "things/7"')
    assert [e.seq for e in (await service.list_audit_entries(request, CALL)).audit_entries] == [8]
    request = pb.ListAuditEntriesRequest(page_size=2, order_by="seq desc")
    first = await service.list_audit_entries(request, CALL)
    request.page_token = first.next_page_token
    second = await service.list_audit_entries(request, CALL)
    assert [e.seq for page in (first, second) for e in page.audit_entries] == [2500, 2499, 2498, 2497]


text_of = st.text(max_size=20)


@given(text_of, text_of, text_of, text_of, st.integers(1, 2**62), st.floats(allow_nan=False))
def test_moving_a_character_from_one_field_into_the_next_changes_the_hash(actor, action, subject, outcome, seq, time):
    entry = AuditEntry(seq, time, actor + "x", action, subject, outcome, "{}", GENESIS, "")
    moved = replace(entry, actor=actor, action="x" + action)
    assert entry.computed_hash() != moved.computed_hash()
    whole = replace(entry, hash=entry.computed_hash())
    assert fault(whole, seq, GENESIS) == ""
    assert fault(whole, seq + 1, GENESIS) != ""


async def test_text_that_a_database_would_not_keep_is_replaced_before_it_is_hashed(store):
    note = AuditNote("local", "x", "a\0b\ud800" + "y" * 600, details={"k": "\ud800\0"})
    await store.write(lambda tx: tx.notes.append(note))
    [entry] = await store.read(lambda conn: audit.page(conn, 0))
    assert len(entry.subject) == 512
    assert (await verified(store)).ok
