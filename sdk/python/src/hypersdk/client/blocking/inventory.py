# Generated from aio/inventory.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.inventory: the machines of a connection."""

from __future__ import annotations

import grpc

from hypersdk.api.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Inventory:
    """Calls of InventoryService, answered by provider plugins."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        self._caller = caller

    def get_machine(self, name: str, *, timeout_s: float | None = None) -> inventory_pb2.Machine:
        """`connections/{connection}/machines/{machine}`. Raises NotFound."""
        request = inventory_pb2.GetMachineRequest(name=name)
        return self._caller.unary(self._stub.GetMachine, request, timeout_s)

    def list_machines(
        self, parent: str = "connections/-", *, page_size: int = 0
    ) -> Pager[inventory_pb2.ListMachinesResponse, inventory_pb2.Machine]:
        """Machines of one connection, or of all; the pager's `unreachable` names those that did not answer."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListMachines,
                inventory_pb2.ListMachinesRequest(parent=parent, page_size=page_size, page_token=token),
            ),
            lambda page: page.machines,
        )
