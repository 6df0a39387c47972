"""Many WatchJobs streams in a process of its own.

    python -m tests.support.watchers ADDRESS STREAMS EVENTS [JOB]

Says `ready` when every stream has the present; ends when every stream has had EVENTS changes more. Prints JSON: wall
times at which each change was heard first and last, in the order of revisions.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc

_PER_CHANNEL = 50


async def main(address: str, streams: int, events: int, *names: str) -> None:
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    channels = [
        grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(-(-streams // _PER_CHANNEL))
    ]
    ready = 0
    all_ready = asyncio.Event()

    async def watch(number: int) -> None:
        nonlocal ready
        stub = jobs_pb2_grpc.JobServiceStub(channels[number // _PER_CHANNEL])
        heard = 0
        live = False
        async for change in stub.WatchJobs(jobs_pb2.WatchJobsRequest(names=names, states_only=True)):
            if not live:
                if change.revision:  # the last of the present carries it
                    live = True
                    ready += 1
                    if ready == streams:
                        all_ready.set()
                continue
            if change.HasField("job"):
                now = time.time()
                first.setdefault(change.revision, now)
                last[change.revision] = now
                heard += 1
                if heard == events:
                    return

    tasks = [asyncio.create_task(watch(number)) for number in range(streams)]
    waiting = asyncio.create_task(all_ready.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    print("ready", flush=True)
    await asyncio.gather(*tasks)
    print(json.dumps({"first": [first[r] for r in sorted(first)], "last": [last[r] for r in sorted(last)]}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
