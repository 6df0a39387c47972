"""The gate of dependencies where the store is a server: it asks beside the loop, and holds the job meanwhile."""

import asyncio

import pytest
from hypersdk_kernel.engine.dependencies import DependencyGate
from hypersdk_kernel.engine.gates import Doom, NotAtHand
from hypersdk_kernel.model.dependency import Dependency
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobState


def job(name, state=JobState.WAITING, **values):
    return Job(id=name, uid=name, task="x", spec={}, state=state, create_time=1.0, update_time=1.0, **values)


class Server:
    """Nothing is in memory; `release` lets a question that was asked be answered by how things were when it was."""

    def __init__(self, *jobs):
        self.jobs = {each.id: each for each in jobs}
        self.asked = []
        self.reconsidered = []
        self.tasks = []
        self.release = asyncio.Event()
        self.gate = DependencyGate(
            self.lookup, self.fetch, lambda _, ask: self.tasks.append(asyncio.create_task(ask())), self.reconsider
        )

    def lookup(self, job_id):
        raise NotAtHand(job_id)

    async def fetch(self, ids):
        self.asked.append(ids)
        found = {i: self.jobs[i] for i in ids if i in self.jobs}
        await self.release.wait()
        return found

    def reconsider(self, ids):
        self.reconsidered += ids

    async def settled(self):
        await asyncio.sleep(0)
        self.release.set()
        await asyncio.gather(*self.tasks)


WAITING = job("b", dependencies=(Dependency("a"),))
ENDED = Event(9, 1.0, "job.succeeded", "jobs/a", "kernel", {})


@pytest.mark.parametrize(
    ("upstream", "verdict"),
    [([job("a", JobState.SUCCEEDED)], type(None)), ([job("a", JobState.FAILED)], Doom), ([], Doom)],
)
async def test_a_job_is_held_until_the_server_has_said_how_those_are_that_it_waits_for(upstream, verdict):
    server = Server(*upstream)
    assert "being asked" in server.gate.judge(WAITING, 1.0).message
    await server.settled()
    assert server.reconsidered == ["b"]
    assert type(server.gate.judge(WAITING, 1.0)) is verdict
    assert type(server.gate.judge(WAITING, 1.0)) is verdict  # before its attempt: it is not asked again
    assert server.asked == [("a",)]


async def test_an_end_that_comes_while_the_server_is_asked_is_not_lost_to_its_old_answer():
    server = Server(job("a", JobState.RUNNING))
    server.gate.judge(WAITING, 1.0)
    await asyncio.sleep(0)
    server.jobs["a"] = job("a", JobState.SUCCEEDED)
    server.gate.notice([ENDED])
    assert server.reconsidered == ["b"]
    await server.settled()
    server.gate.judge(WAITING, 1.0)
    await server.settled()
    assert server.gate.judge(WAITING, 1.0) is None
    assert server.asked == [("a",), ("a",)]


async def test_an_end_that_comes_after_the_answer_is_asked_about():
    server = Server(job("a", JobState.RUNNING))
    server.gate.judge(WAITING, 1.0)
    await server.settled()
    assert "jobs/a" in server.gate.judge(WAITING, 1.0).message
    server.jobs["a"] = job("a", JobState.SUCCEEDED)
    server.gate.notice([ENDED])
    assert server.reconsidered == ["b", "b"]
    server.gate.judge(WAITING, 1.0)
    await server.settled()
    assert server.gate.judge(WAITING, 1.0) is None


async def test_what_was_said_is_forgotten_with_the_job_that_waits():
    server = Server(job("a", JobState.SUCCEEDED))
    server.gate.judge(WAITING, 1.0)
    await server.settled()
    server.gate.forget("b")
    assert "being asked" in server.gate.judge(WAITING, 1.0).message
