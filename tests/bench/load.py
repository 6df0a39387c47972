"""A load generator in a process of its own: N callers of one method for some seconds.

    python -m tests.bench.load ADDRESS METHOD CALLERS SECONDS NAME

METHOD is `get` (GetJob of NAME), `create` (CreateJob, durable) or `batch` (BatchCreateJobs of BATCH no-op jobs each).
Prints JSON: jobs per second, p50 and p99 of a call in seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc

from tests.bench.rows import percentile

BATCH = 250


def request(method: str, name: str) -> Any:
    if method == "get":
        return jobs_pb2.GetJobRequest(name=name)
    if method == "batch":
        each = jobs_pb2.CreateJobRequest(job=jobs_pb2.Job(task="noop-brief"))
        each.job.spec.update({"n": 1})
        return jobs_pb2.BatchCreateJobsRequest(requests=[each] * BATCH)
    made = jobs_pb2.CreateJobRequest(job=jobs_pb2.Job(task="convert"))
    made.job.spec.update({"source_path": "/nowhere/a.raw", "target_path": "/nowhere/b.qcow2", "format": "qcow2"})
    return made


def called(method: str, stub: jobs_pb2_grpc.JobServiceStub) -> Any:
    return {"get": stub.GetJob, "create": stub.CreateJob, "batch": stub.BatchCreateJobs}[method]


async def main(address: str, method: str, callers: int, seconds: float, name: str) -> None:
    times: list[float] = []
    channels = [
        grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(min(callers, 8))
    ]
    message = request(method, name)

    async def caller(index: int, until: float) -> None:
        call = called(method, jobs_pb2_grpc.JobServiceStub(channels[index % len(channels)]))
        while (start := time.perf_counter()) < until:
            await call(message, timeout=30)
            times.append(time.perf_counter() - start)

    for channel in channels:
        await channel.channel_ready()
    await asyncio.gather(*(caller(i, time.perf_counter() + 0.5) for i in range(callers)))
    times.clear()
    start = time.perf_counter()
    await asyncio.gather(*(caller(i, start + seconds) for i in range(callers)))
    spent = time.perf_counter() - start
    jobs = len(times) * (BATCH if method == "batch" else 1)
    print(json.dumps({"rate": jobs / spent, "p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
