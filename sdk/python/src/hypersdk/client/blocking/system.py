# Generated from aio/system.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.system: what the kernel is and how it is doing."""

from __future__ import annotations

import grpc

from hypersdk.api.system.v1 import system_pb2, system_pb2_grpc
from hypersdk.client.blocking.caller import Caller


class System:
    """Calls of SystemService."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = system_pb2_grpc.SystemServiceStub(channel)
        self._caller = caller

    def info(self, *, timeout_s: float | None = None) -> system_pb2.SystemInfo:
        """Version, addresses, counts, memory, and whether the kernel is draining."""
        return self._caller.unary(
            self._stub.GetSystemInfo, system_pb2.GetSystemInfoRequest(), timeout_s
        )
