"""The state table admits no lost job (one that nothing can end) and no zombie (one that runs after its end)."""

import pytest
from hypersdk.errors import FailedPrecondition
from hypersdk_kernel.model.job import TERMINAL, TRANSITIONS, JobEvent, JobState, next_state
from hypothesis import given
from hypothesis import strategies as st


def reachable(start: JobState) -> set[JobState]:
    seen, todo = {start}, [start]
    while todo:
        here = todo.pop()
        for (state, _), there in TRANSITIONS.items():
            if state is here and there not in seen:
                seen.add(there)
                todo.append(there)
    return seen


@pytest.mark.parametrize("state", [s for s in JobState if s not in TERMINAL])
def test_every_unfinished_job_can_still_reach_every_end(state):
    assert reachable(state) >= TERMINAL


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_only_an_operators_retry_leaves_an_end_and_nothing_leaves_success(state):
    leaving = {event for (s, event) in TRANSITIONS if s is state}
    assert leaving == (set() if state is JobState.SUCCEEDED else {JobEvent.RETRY})


@pytest.mark.parametrize("state", [s for s in JobState if s not in TERMINAL])
def test_every_unfinished_job_can_be_cancelled(state):
    assert next_state(state, JobEvent.CANCEL) is JobState.CANCELLED


def test_running_is_entered_only_from_the_queue_or_from_a_pause():
    assert {s for (s, e), t in TRANSITIONS.items() if t is JobState.RUNNING} == {JobState.QUEUED, JobState.PAUSED}


def test_every_state_and_every_event_is_in_the_table():
    assert {s for s, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(JobState)
    assert {e for _, e in TRANSITIONS} == set(JobEvent)


@given(st.lists(st.sampled_from(list(JobEvent)), max_size=60))
def test_any_sequence_of_events_leaves_a_job_in_one_state_and_success_is_final(events):
    state = JobState.QUEUED
    for event in events:
        try:
            after = next_state(state, event)
        except FailedPrecondition as exc:
            assert exc.reason == "JOB_STATE"
            assert (state, event) not in TRANSITIONS
            continue
        assert state is not JobState.SUCCEEDED
        state = after
