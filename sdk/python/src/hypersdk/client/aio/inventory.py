"""client.inventory: the machines of a connection."""

from __future__ import annotations

import grpc

from hypersdk.api.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from hypersdk.client.aio.caller import AsyncCaller
from hypersdk.client.aio.pager import AsyncPager


class AsyncInventory:
    """Calls of InventoryService, answered by provider plugins."""

    def __init__(self, channel: grpc.aio.Channel, caller: AsyncCaller) -> None:
        self._stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        self._caller = caller

    async def get_machine(self, name: str, *, timeout_s: float | None = None) -> inventory_pb2.Machine:
        """`connections/{connection}/machines/{machine}`. Raises NotFound."""
        request = inventory_pb2.GetMachineRequest(name=name)
        return await self._caller.unary(self._stub.GetMachine, request, timeout_s)

    def list_machines(
        self, parent: str = "connections/-", *, page_size: int = 0
    ) -> AsyncPager[inventory_pb2.ListMachinesResponse, inventory_pb2.Machine]:
        """Machines of one connection, or of all; the pager's `unreachable` names those that did not answer."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.ListMachines,
                inventory_pb2.ListMachinesRequest(parent=parent, page_size=page_size, page_token=token),
            ),
            lambda page: page.machines,
        )
