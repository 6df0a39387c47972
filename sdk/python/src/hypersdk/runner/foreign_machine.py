"""A machine as a host in another language tells it (inventory/v1 in proto3 JSON), as the contract's Machine.

Every field's type is checked: the kernel checks what passes through it, and this does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from hypersdk.errors import Internal
from hypersdk.plugin.provider import Firmware, Machine, MachineDisk, Nic, PowerState

_POWER = {"POWER_STATE_OFF": "off", "POWER_STATE_ON": "on", "POWER_STATE_SUSPENDED": "suspended"}
_FIRMWARE = {"FIRMWARE_BIOS": "bios", "FIRMWARE_EFI": "efi"}
_MAX = (1 << 63) - 1


def machine_of(data: Any) -> Machine:
    """Raises Internal (PLUGIN_RESULT_INVALID) naming the field."""
    row = _object(data, "machine")
    return Machine(
        id=_last(row, "machine"),
        display_name=_text(row, "display_name"),
        platform_id=_text(row, "platform_id"),
        disks=[_disk(_object(disk, "disks")) for disk in _list(row, "disks")],
        nics=[_nic(_object(nic, "nics")) for nic in _list(row, "nics")],
        power_state=cast("PowerState", _POWER.get(_text(row, "power_state"), "unknown")),
        cpu_count=_number(row, "cpu_count", 0, 0),
        memory_bytes=_number(row, "memory_bytes", 0, 0),
        firmware=cast("Firmware", _FIRMWARE.get(_text(row, "firmware"), "unknown")),
        guest_os=_text(row, "guest_os"),
        labels=_strings(row, "labels"),
        details=_strings(row, "details"),
    )


def text_of(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise _invalid(field, "is no string")
    return value


def _disk(row: Mapping[str, Any]) -> MachineDisk:
    return MachineDisk(
        id=_last(row, "disks"),
        display_name=_text(row, "display_name"),
        size_bytes=_number(row, "size_bytes", -1, -1),
        format=_text(row, "format"),
        platform_id=_text(row, "platform_id"),
        allocated_bytes=_number(row, "allocated_bytes", -1, -1),
        bus=_text(row, "bus"),
        details=_strings(row, "details"),
    )


def _nic(row: Mapping[str, Any]) -> Nic:
    return Nic(_text(row, "id"), _text(row, "mac_address"), _text(row, "network"), _text(row, "model"))


def _last(row: Mapping[str, Any], what: str) -> str:
    """The id at the end of a resource name."""
    found = _text(row, "name").rpartition("/")[2]
    if not found:
        raise _invalid(f"{what}.name", "is missing")
    return found


def _text(row: Mapping[str, Any], field: str) -> str:
    return text_of(row.get(field, ""), field)


def _number(row: Mapping[str, Any], field: str, default: int, least: int) -> int:
    """proto3 JSON writes an int64 as a string or a number."""
    value = row.get(field, default)
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) < 21:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX:
        raise _invalid(field, "is no number in its range")
    return value


def _strings(row: Mapping[str, Any], field: str) -> dict[str, str]:
    found = _object(row.get(field, {}), field)
    return {key: text_of(value, f"{field}.{key}") for key, value in found.items()}


def _list(row: Mapping[str, Any], field: str) -> list[Any]:
    found = row.get(field, [])
    if not isinstance(found, list):
        raise _invalid(field, "is no list")
    return found


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(field, "is no object")
    return value


def _invalid(field: str, text: str) -> Internal:
    return Internal(f"the host's answer: {field} {text}", reason="PLUGIN_RESULT_INVALID")
