"""The typed gRPC client of the kernel, sync and async.

    with Client() as client:                                   async with AsyncClient() as client:
        job = client.jobs.create("export", {...})                  job = await client.jobs.create("export", {...})
        job = client.jobs.wait(job.name)                           job = await client.jobs.wait(job.name)

    discovery      where the daemon is and which credentials it wants, found without flags
    channel        from an endpoint to a gRPC channel
    calls          deadlines, retries and backoff: the figures and the pure part of the rules
    translate      gRPC failures turned into the tree of hypersdk.errors
    aio/           AsyncClient and one sub-client a service: the source of truth
    blocking/      Client: generated from aio/ by `python -m hypersdk.client.generate_sync`

Methods take keyword arguments and return proto messages. Reads are retried while the daemon is away; mutators too,
because each carries a request_id by which the kernel recognizes a repetition. Failures are raised as the errors of
`hypersdk.errors`, never as grpc.RpcError. Deliberately stands alone: it imports grpc, the generated API and the error
tree, and nothing else of this distribution.
"""

from __future__ import annotations

from hypersdk.client.aio.client import AsyncClient
from hypersdk.client.blocking.client import Client
from hypersdk.client.calls import CallOptions
from hypersdk.client.discovery import Endpoint, discover
from hypersdk.client.terminal import TERMINAL_STATES, failure_of, has_ended

__all__ = [
    "TERMINAL_STATES", "AsyncClient", "CallOptions", "Client", "Endpoint", "discover", "failure_of", "has_ended",
]  # fmt: skip
