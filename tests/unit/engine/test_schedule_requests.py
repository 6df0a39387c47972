"""What operators ask of schedules: delete, run by hand, repeat a request, check only."""


import pytest
from hypersdk.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound
from hypersdk_kernel.model.schedule import OverlapPolicy
from hypersdk_kernel.model.timing import Timing
from hypersdk_kernel.store.requests import RequestKey
from support.timetables import HOUR, TEMPLATE, pass_time, schedule


async def test_deleting_keeps_jobs_and_a_name_made_anew_starts_afresh(table):
    await schedule(table)
    await pass_time(table, HOUR)
    (old,) = await table.jobs.all()
    await table.schedules.delete("s", actor="local")
    await pass_time(table, HOUR)
    assert len(await table.jobs.all()) == 1
    await schedule(table)
    await table.jobs.end(old.id)
    assert (await table.schedules.get("s")).status.succeeded_count == 0


async def test_a_manual_run_is_beside_the_timetable_and_obeys_the_overlap_policy(table):
    before = await schedule(table)
    job = await table.schedules.run("s", actor="eve")
    assert job.owner == "eve"
    after = await table.schedules.get("s")
    assert (after.status.next_time, after.status.run_count) == (before.status.next_time, 1)
    with pytest.raises(FailedPrecondition) as caught:
        await table.schedules.run("s", actor="eve")
    assert caught.value.reason == "SCHEDULE_RUNNING"


async def test_manual_runs_at_the_moment_of_an_occurrence_are_jobs_of_their_own(each):
    table = each
    await schedule(table, overlap=OverlapPolicy.QUEUE)
    table.clock.set((await table.schedules.get("s")).status.next_time)
    manual = [await table.schedules.run("s", actor="eve") for _ in range(2)]
    await table.settle()
    jobs = await table.jobs.all()
    assert len({job.id for job in jobs}) == 3
    assert {job.scheduled_time for job in jobs} == {manual[0].scheduled_time}
    assert (await table.schedules.get("s")).status.refused_count == 0


async def test_a_repeated_request_runs_once(table):
    await schedule(table, overlap=OverlapPolicy.QUEUE)
    key = RequestKey("6f6f2f5c-0000-4000-8000-000000000001", "RunSchedule", b"x" * 32)
    first = await table.schedules.run("s", actor="eve", key=key)
    table.clock.advance(1)
    assert (await table.schedules.run("s", actor="eve", key=key)).id == first.id
    assert len(await table.jobs.all()) == 1


async def test_a_repeated_request_does_not_replace_the_run_that_it_made(table):
    await schedule(table, overlap=OverlapPolicy.REPLACE)
    key = RequestKey("6f6f2f5c-0000-4000-8000-000000000002", "RunSchedule", b"x" * 32)
    first = await table.schedules.run("s", actor="eve", key=key)
    table.clock.advance(1)
    assert await table.schedules.run("s", actor="eve", key=key) == first
    (job,) = await table.jobs.all()
    assert not job.terminal


async def test_names_and_etags_are_guarded(table):
    made = await schedule(table)
    with pytest.raises(AlreadyExists):
        await schedule(table)
    with pytest.raises(Aborted):
        await table.schedules.update("s", {"display_name": "x"}, etag='"0"', actor="local")
    await pass_time(table, HOUR)  # a run is no edit
    await table.schedules.update("s", {"display_name": "x"}, etag=made.etag, actor="local")
    with pytest.raises(NotFound):
        await table.schedules.delete("t", actor="local")


async def test_checking_only_changes_nothing(table):
    values = {"timing": Timing(cron="@daily"), "template": TEMPLATE}
    await table.schedules.create("s", values, actor="local", validate_only=True)
    with pytest.raises(NotFound):
        await table.schedules.get("s")
    made = await schedule(table)
    await table.schedules.update("s", {"display_name": "x"}, actor="local", validate_only=True)
    await table.schedules.pause("s", "", actor="local", validate_only=True)
    await table.schedules.run("s", actor="local", validate_only=True)
    await table.schedules.delete("s", actor="local", validate_only=True)
    assert await table.schedules.get("s") == made
    assert await table.jobs.all() == []
