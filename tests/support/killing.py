"""Load on a daemon that is killed again and again: what was acknowledged is remembered, and judged at the end."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hypersdk.api.jobs.v1.jobs_pb2 import (
    AttemptState,
    CreateJobRequest,
    Dependency,
    DependencyNeed,
    Job,
    JobState,
    WatchJobsResponse,
)
from hypersdk.client import Client
from hypersdk.errors import HyperError

from .effects import effects

SUCCEEDED, FAILED = JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED
ENDS = {"job.succeeded", "job.failed", "job.cancelled"}
"""The events that end a job."""
TERMINAL = {SUCCEEDED, FAILED, JobState.JOB_STATE_CANCELLED}
EXPECTED = {"never": FAILED, "away": JobState.JOB_STATE_CANCELLED}
"""How a job ends that never succeeds: what fails again and again is cancelled by its test."""


class Load:
    """Submits until `stop`, one job or a batch at a time, whatever happens to the daemon behind `address`.

    acknowledged  names whose submission was answered
    """

    def __init__(
        self, address: Callable[[], str], journal: Path, seed: int, pace_s: float = 0.02, *, prefix: str = ""
    ) -> None:
        """`prefix`: of the names, where several loads are on one store."""
        self.acknowledged: list[str] = []
        self._address = address
        self._journal = journal
        self._random = random.Random(seed)
        self._pace_s = pace_s
        self._prefix = prefix
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with Client(self._address()) as client:
                    while not self._stop.wait(self._pace_s):
                        number += 1
                        self._submit(client, number)
            except HyperError:
                self._stop.wait(0.05)  # killed; what was asked for may or may not have been taken

    def _submit(self, client: Client, number: int) -> None:
        if number % 7 == 0:
            batch = [
                CreateJobRequest(job=self.job("effect-brief", n % 4), job_id=f"{self._prefix}b{number}-{n}")
                for n in range(12)
            ]
            self.acknowledged += [job.name for job in client.jobs.submit_many(batch)]
            return
        task = "effect" if number % 11 == 0 else "effect-brief"
        job = self.job(task, self._random.randrange(8))
        if self.acknowledged and number % 5 == 0:
            job.dependencies.append(Dependency(job=self.acknowledged[-1], need=DependencyNeed.DEPENDENCY_NEED_FINISHED))
        self.acknowledged.append(client.jobs.submit(job, job_id=f"{self._prefix}j{number}").name)

    def job(self, task: str, kind: int) -> Job:
        job = Job(task=task)
        spec: dict[str, object] = {"journal": str(self._journal), "work_s": self._random.choice((0.0, 0.0, 0.01, 0.05))}
        if kind in {1, 2}:
            spec["fail"] = "once" if kind == 1 else "never"
        job.spec.update(spec)
        job.retry_policy.max_attempts = 20
        job.retry_policy.initial_delay.FromMilliseconds(20)
        job.retry_policy.max_delay.FromMilliseconds(200)
        return job


def until_all_ended(client: Client, timeout_s: float) -> list[Job]:
    """Every job there is, when none is unfinished any more."""
    deadline = time.monotonic() + timeout_s
    while True:
        jobs = list(client.jobs.list(page_size=1000))
        open_ = [job for job in jobs if job.state not in TERMINAL]
        if not open_:
            return jobs
        assert time.monotonic() < deadline, (len(open_), open_[:3])
        time.sleep(0.3)


def judge(
    client: Client, acknowledged: list[str], journal: Path, *, exact: bool, timeout_s: float = 120.0
) -> Counter[str]:
    """What must hold when it has become quiet. `exact`: no runner was killed, so that each success had its effect
    once; else an attempt may have had it and died before it could tell, and is followed by another."""
    jobs = {job.name: job for job in until_all_ended(client, timeout_s)}
    assert set(acknowledged) <= set(jobs), sorted(set(acknowledged) - set(jobs))[:5]
    ends = Counter(event.job.name for event in changes(client, jobs.values()) if event.event_type in ENDS)
    assert {name: ends[name] for name in jobs if ends[name] != 1} == {}
    happened = effects(journal)
    assert {found: n for found, n in happened.items() if n != 1} == {}, "an attempt had its effect twice"
    of: defaultdict[str, list[int]] = defaultdict(list)
    for name, attempt in happened:
        of[name].append(attempt)
    assert set(of) <= set(jobs)
    for name, job in jobs.items():
        expected = EXPECTED.get(job.spec.fields["fail"].string_value, SUCCEEDED)
        assert job.state == expected, job
        if expected != SUCCEEDED:
            assert of[name] == [], name
        elif exact:
            assert of[name] == [job.attempt_count], (name, of[name], job)
        else:
            assert job.attempt_count in of[name], (name, of[name], job)
        if job.attempt_count > 1:
            won = [a for a in client.jobs.attempts(name) if a.state == AttemptState.ATTEMPT_STATE_SUCCEEDED]
            assert len(won) == (expected == SUCCEEDED), (name, won)
    return Counter(JobState.Name(job.state) for job in jobs.values())


def changes(client: Client, jobs: Iterable[Job]) -> Iterator[WatchJobsResponse]:
    """Every change of a job's state, by the log, up to the last one of `jobs`."""
    last = max(int(job.etag.strip('"')) for job in jobs)
    for event in client.jobs.watch(since_revision=1, states_only=True):
        yield event
        if event.revision >= last:
            return
    raise AssertionError("the watch ended")
