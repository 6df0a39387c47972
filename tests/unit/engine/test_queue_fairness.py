"""Who starts next when owners, limits and an operator's wishes meet."""

from collections import Counter

from hypersdk_kernel.engine.queue import AGEING_S, ReadyQueue
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.model.limit import ANY, Facts, Limit, Scope
from hypothesis import given
from hypothesis import strategies as st


def job(name, priority=50, created=0.0, owner="a", task="t", rank=0, labels=None):
    return Job(
        name, name, task, {}, JobState.QUEUED, created, created, priority=priority, owner=owner, rank=rank,
        labels=labels or {},
    )  # fmt: skip


def limited(*limits):
    queue = ReadyQueue()
    queue.relimit(limits)
    return queue


def test_a_point_of_priority_is_worth_a_minute_of_waiting_so_nothing_starves():
    queue = ReadyQueue()
    queue.push(job("low", priority=0, created=0.0))
    queue.push(job("high-in-time", priority=100, created=100 * AGEING_S - 1))
    queue.push(job("high-too-late", priority=100, created=100 * AGEING_S + 1))
    assert [queue.pop(), queue.pop(), queue.pop()] == ["high-in-time", "low", "high-too-late"]


def test_ten_thousand_jobs_of_one_owner_do_not_keep_out_one_of_another():
    queue = ReadyQueue()
    for n in range(10_000):
        queue.push(job(f"a{n:05}", created=float(n % 100), owner="a"))
    queue.push(job("b", created=120.0, owner="b"))
    assert "b" in [queue.pop(), queue.pop()]


def test_an_operators_rank_comes_before_any_priority():
    queue = ReadyQueue()
    queue.push(job("urgent", priority=100))
    queue.push(job("moved", priority=0, created=99.0, rank=1))
    assert [queue.pop(), queue.pop()] == ["moved", "urgent"]


def test_a_full_limit_passes_over_its_jobs_and_costs_the_others_nothing():
    queue = limited(Limit("exports", Scope.TASK, "export", max_running=1))
    queue.push(job("e1", task="export"))
    queue.push(job("e2", task="export", created=1.0))
    queue.push(job("v1", task="verify", created=2.0))
    assert [queue.pop(), queue.pop(), queue.pop()] == ["e1", "v1", None]
    assert queue.standing("e2", 0.0)[1].startswith("limits/exports")
    queue.ended("e1")
    assert queue.pop() == "e2"


def test_each_connection_has_a_count_of_its_own_when_the_limit_says_any():
    queue = limited(Limit("vcenters", Scope.CONNECTION, ANY, max_running=1))
    for name, connection in [("a1", "a"), ("a2", "a"), ("b1", "b")]:
        queue.push(job(name), Facts("t", "o", {}, (connection,)))
    assert {queue.pop(), queue.pop()} == {"a1", "b1"}
    assert queue.pop() is None


def test_a_rate_limit_says_when_the_next_may_start():
    queue = limited(Limit("slow", Scope.ALL, max_starts=2, period_s=60.0))
    for n in range(3):
        queue.push(job(f"j{n}", created=float(n)))
    assert [queue.pop(100.0), queue.pop(110.0), queue.pop(120.0)] == ["j0", "j1", None]
    assert queue.next_release(120.0) == 160.0
    assert queue.pop(160.0) == "j2"


def test_new_limits_count_what_runs_already():
    queue = ReadyQueue()
    queue.push(job("j1"))
    queue.push(job("j2", created=1.0))
    assert queue.pop() == "j1"
    queue.relimit([Limit("one", Scope.ALL, max_running=1)])
    assert queue.pop() is None
    queue.relimit([])
    assert queue.pop() == "j2"


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]), st.integers(0, 100), st.integers(0, 9)),
        max_size=30,
    ),
    st.integers(1, 3),
)
def test_whatever_is_pushed_and_ended_no_limit_is_ever_exceeded_and_all_start_in_the_end(rows, most):
    queue = limited(Limit("tasks", Scope.TASK, ANY, max_running=most))
    tasks = {}
    for n, (owner, task, priority, created) in enumerate(rows):
        tasks[f"j{n}"] = task
        queue.push(job(f"j{n}", priority, float(created), owner, task))
    running, started = [], set()
    while len(started) < len(rows):
        name = queue.pop()
        if name is None:
            assert running, "nothing runs and nothing may start"
            queue.ended(running.pop(0))
            continue
        running.append(name)
        started.add(name)
        assert max(Counter(tasks[r] for r in running).values()) <= most
    assert started == set(tasks)
