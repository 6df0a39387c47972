"""The peer of the control-plane cases: a grpc.aio servicer that does nothing. `python -m tests.bench.empty_server
SOCKET`."""

from __future__ import annotations

import asyncio
import sys

import grpc
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc


class Empty(jobs_pb2_grpc.JobServiceServicer):
    """Answers at once with an empty message."""

    async def GetJob(self, request, context):  # noqa: N802 - the generated base's name
        return jobs_pb2.Job()

    async def CreateJob(self, request, context):  # noqa: N802
        return jobs_pb2.Job()


async def main(path: str) -> None:
    server = grpc.aio.server()
    jobs_pb2_grpc.add_JobServiceServicer_to_server(Empty(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
