"""What jobs wait for in each other."""

import itertools
from dataclasses import replace

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk_kernel.model.dependency import (
    Dependency,
    Need,
    Verdict,
    check_acyclic,
    compile_condition,
    find_cycle,
    judge,
)
from hypersdk_kernel.model.job import TERMINAL, Job, JobState
from hypothesis import given
from hypothesis import strategies as st

DONE = Job("up", "u", "t", {}, JobState.SUCCEEDED, 0.0, 0.0, result={"bytes": 10, "ok": True, "disk": {"id": "d1"}})


@pytest.mark.parametrize("state", [s for s in JobState if s not in TERMINAL])
def test_a_job_that_has_not_ended_is_waited_for(state):
    assert judge(Dependency("up"), replace(DONE, state=state)) is Verdict.WAIT


@pytest.mark.parametrize(
    ("need", "met"),
    [
        (Need.SUCCEEDED, {JobState.SUCCEEDED}),
        (Need.FAILED, {JobState.FAILED}),
        (Need.FINISHED, {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    ],
)
def test_an_ended_job_meets_what_was_asked_of_it_or_never_will(need, met):
    for state in TERMINAL:
        verdict = judge(Dependency("up", need), replace(DONE, state=state))
        assert verdict is (Verdict.MET if state in met else Verdict.UNMET)


def test_a_job_that_is_no_more_meets_nothing():
    assert judge(Dependency("up", Need.FINISHED), None) is Verdict.UNMET


@pytest.mark.parametrize(
    ("condition", "true"),
    [
        ("result.bytes > 9", True),
        ("result.bytes >= 10.5", False),
        ("result.bytes = 10", True),
        ("result.ok = true", True),
        ("result.ok != true", False),
        ('result.disk.id = "d1"', True),
        ('result.disk.id > "d0"', True),
        ("result.nothing = 1", False),
        ("result.nothing != 1", True),
        ("result.nothing:*", False),
        ("result.bytes:*", True),
        ("result.bytes > 5 AND NOT result.ok = false", True),
        ("state = SUCCEEDED AND attempt_count = 0", True),
    ],
)
def test_a_condition_is_judged_on_the_other_jobs_result(condition, true):
    assert compile_condition(condition)(DONE) is true
    assert judge(Dependency("up", Need.SUCCEEDED, condition), DONE) is (Verdict.MET if true else Verdict.UNMET)


def test_a_condition_that_cannot_be_read_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        compile_condition("result.bytes >")
    assert caught.value.reason == "FILTER_INVALID"


def test_a_circle_is_refused_and_named():
    with pytest.raises(InvalidArgument) as caught:
        check_acyclic({"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": []})
    assert caught.value.reason == "DEPENDENCY_CYCLE"
    assert "a waits for b waits for c waits for a" in caught.value.message


def test_a_chain_of_ten_thousand_is_no_recursion():
    assert find_cycle({n: [n + 1] for n in range(10_000)}) == []


@given(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4), max_size=8))
def test_a_cycle_is_found_exactly_when_no_order_of_the_nodes_exists(edges):
    nodes = set(edges) | {n for found in edges.values() for n in found}
    left = dict.fromkeys(nodes)
    while ready := [n for n in left if not any(d in left for d in edges.get(n, ()))]:
        for node in ready:
            del left[node]
    cycle = find_cycle(edges)
    assert bool(cycle) == bool(left)
    assert all(after in edges[before] for before, after in itertools.pairwise(cycle))
