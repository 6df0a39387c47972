"""The order in which queued jobs start."""

from hypersdk_kernel.engine.queue import ReadyQueue
from hypersdk_kernel.model.job import Job, JobState
from hypothesis import given
from hypothesis import strategies as st


def job(name: str, priority: int = 50, created: float = 0.0) -> Job:
    return Job(name, name, "t", {}, JobState.QUEUED, created, created, priority=priority)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=40))
def test_higher_priority_first_then_the_older(rows):
    queue = ReadyQueue()
    for index, (priority, created) in enumerate(rows):
        queue.push(job(f"j{index:03}", priority, created))
    order = [queue.pop() for _ in rows]
    wanted = sorted(range(len(rows)), key=lambda i: (-rows[i][0], rows[i][1], i))
    assert order == [f"j{i:03}" for i in wanted]
    assert queue.pop() is None


def test_a_removed_job_is_not_popped_and_can_come_back():
    queue = ReadyQueue()
    queue.push(job("a"))
    queue.push(job("b", created=1.0))
    queue.remove("a")
    assert "a" not in queue
    assert queue.pop() == "b"
    queue.push(job("a"))
    queue.push(job("a"))
    assert len(queue) == 1
    assert (queue.pop(), queue.pop()) == ("a", None)
