"""A load generator in a process of its own: N callers of one method for some seconds.

    python -m tests.bench.load ADDRESS METHOD CALLERS SECONDS NAME

METHOD is `get` (GetJob of NAME) or `create` (CreateJob, durable). Prints JSON: calls per second, p50 and p99 in
seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc

from tests.bench.rows import percentile


def request(method: str, name: str) -> jobs_pb2.GetJobRequest | jobs_pb2.CreateJobRequest:
    if method == "get":
        return jobs_pb2.GetJobRequest(name=name)
    made = jobs_pb2.CreateJobRequest(job=jobs_pb2.Job(task="convert"))
    made.job.spec.update({"source_path": "/nowhere/a.raw", "target_path": "/nowhere/b.qcow2", "format": "qcow2"})
    return made


async def main(address: str, method: str, callers: int, seconds: float, name: str) -> None:
    times: list[float] = []
    channels = [
        grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(min(callers, 8))
    ]
    message = request(method, name)

    async def caller(index: int, until: float) -> None:
        stub = jobs_pb2_grpc.JobServiceStub(channels[index % len(channels)])
        call = stub.GetJob if method == "get" else stub.CreateJob
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
    print(json.dumps({"rate": len(times) / spent, "p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
