"""Many jobs put into a store at once, without a daemon: half of them queued, half succeeded."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator

from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.group import JobGroup
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.store import codec, documents
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.backend import Backend
from hypersdk_kernel.store.engine import Store, Tx

CHUNK = 5000
RARE = "rare"
"""The value of label `lot` on one job of a hundred."""


def made(number: int, now: float) -> Job:
    """Job `s<number>`: every second one is queued, 20 share a group, one of a hundred is a `check` and labelled."""
    queued = number % 2 == 1
    at = now - 86_400 + number * 0.5
    return Job(
        id=f"s{number}",
        uid=str(uuid.UUID(int=number + (1 << 100))),
        task="check" if number % 100 == 1 else "convert",
        spec={"source_path": "/nowhere/a.raw", "target_path": f"/nowhere/{number}.qcow2", "format": "qcow2"},
        state=JobState.QUEUED if queued else JobState.SUCCEEDED,
        create_time=at,
        update_time=at,
        end_time=None if queued else at + 1,
        labels={"lot": RARE if number % 100 == 1 else "common", "team": f"t{number % 10}"},
        owner=f"owner-{number % 3}",
        group=f"g{number // 20}",
    )


async def fill(backend: Backend, clock: Clock, count: int) -> None:
    """`count` jobs, without events."""
    store = await Store.open(backend, clock)

    def add(numbers: range) -> Callable[[Tx], None]:
        def write(tx: Tx) -> None:
            now = clock.now()
            for group in sorted({made(number, now).group for number in numbers}):
                body = dataclasses.asdict(JobGroup(group, (), create_time=now))
                tx.insert(documents.documents, {
                    "kind": "job_group", "id": group, "create_time": now, "revision": 0, "body": codec.dumps(body)
                })
            for number in numbers:
                rows.add(tx, made(number, now), ())

        return write

    for first in range(0, count, CHUNK):
        await store.write(add(range(first, min(count, first + CHUNK))))
    await store.close()


def names(count: int, *, queued: bool) -> Iterator[str]:
    """Of jobs that `fill` made, a hundred over the whole."""
    step = max(2, count // 100 // 2 * 2)
    for number in range(0, count - 1, step):
        yield f"jobs/s{number + queued}"
