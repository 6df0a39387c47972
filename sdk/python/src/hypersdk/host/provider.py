"""InventoryService (proto/hypersdk/api/inventory/v1) on a Provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.provider import Machine, MachineDisk, Nic, Provider

_POWER = {"off": "POWER_STATE_OFF", "on": "POWER_STATE_ON", "suspended": "POWER_STATE_SUSPENDED"}
_FIRMWARE = {"bios": "FIRMWARE_BIOS", "efi": "FIRMWARE_EFI"}


def _health(provider: Provider, _call: Call) -> dict[str, Any]:
    return result.health(provider.health())


def _get_machine(provider: Provider, call: Call) -> dict[str, Any]:
    found = provider.machine(call.child("machines"))
    return _machine(result.instance_of(found, Machine, "machine"), call.connection)


def _list_machines(provider: Provider, call: Call) -> dict[str, Any]:
    page = provider.machines(call.page_size(), call.text("page_token"))
    machines, token = result.page_of(page, Machine, "machines")
    return {"machines": [_machine(m, call.connection) for m in machines], "next_page_token": token}


METHODS: Mapping[str, Callable[[Provider, Call], dict[str, Any]]] = {
    "Health": _health,
    "GetMachine": _get_machine,
    "ListMachines": _list_machines,
}


def _machine(machine: Machine, connection: str) -> dict[str, Any]:
    name = f"{connection}/machines/{result.resource_id(machine.id, 'machine.id')}"
    disks = [_disk(result.instance_of(d, MachineDisk, "machine.disks"), name) for d in machine.disks]
    return {
        "name": name,
        "display_name": result.text(machine.display_name, "machine.display_name"),
        "platform_id": result.text(machine.platform_id, "machine.platform_id"),
        "power_state": _POWER.get(machine.power_state, "POWER_STATE_UNSPECIFIED"),
        "cpu_count": result.integer(machine.cpu_count, "machine.cpu_count", 0, result.INT32_MAX),
        "memory_bytes": result.integer(machine.memory_bytes, "machine.memory_bytes", 0),
        "firmware": _FIRMWARE.get(machine.firmware, "FIRMWARE_UNSPECIFIED"),
        "guest_os": result.text(machine.guest_os, "machine.guest_os"),
        "disks": disks,
        "nics": [_nic(result.instance_of(n, Nic, "machine.nics")) for n in machine.nics],
        "labels": result.text_map(machine.labels, "machine.labels"),
        "details": result.text_map(machine.details, "machine.details"),
    }


def _disk(disk: MachineDisk, machine: str) -> dict[str, Any]:
    return {
        "name": f"{machine}/disks/{result.resource_id(disk.id, 'disk.id')}",
        "display_name": result.text(disk.display_name, "disk.display_name"),
        "platform_id": result.text(disk.platform_id, "disk.platform_id"),
        "size_bytes": result.integer(disk.size_bytes, "disk.size_bytes", -1),
        "allocated_bytes": result.integer(disk.allocated_bytes, "disk.allocated_bytes", -1),
        "format": result.text(disk.format, "disk.format"),
        "bus": result.text(disk.bus, "disk.bus"),
        "details": result.text_map(disk.details, "disk.details"),
    }


def _nic(nic: Nic) -> dict[str, Any]:
    return {
        "id": result.text(nic.id, "nic.id"),
        "mac_address": result.text(nic.mac_address, "nic.mac_address"),
        "network": result.text(nic.network, "nic.network"),
        "model": result.text(nic.model, "nic.model"),
    }
