"""MemoryProvider: a complete Provider in memory, with machines that a test makes and changed-block tracking.

It keeps the contract (its own suites run on it), tracks writes in blocks as a hypervisor's bitmap does, freezes a disk
while a source of it is open, and acquires a snapshot for that, as real platforms do. Nothing survives the process.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind, clip, coalesce
from hypersdk.data.source import BlockSource
from hypersdk.errors import FieldViolation, InvalidArgument, NotFound, OutOfRange
from hypersdk.plugin import ChangeSet, Health, Machine, MachineDisk, Page, Provider, TaskContext

BLOCK = 4096


@dataclass
class MemoryDisk:
    """`epoch` counts what makes older tokens worthless; `writes` are (number, block) in order of number."""

    content: bytearray
    epoch: int = 1
    number: int = 0
    writes: list[tuple[int, int]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        """As the guest would."""
        self.content[offset : offset + len(data)] = data
        self.number += 1
        last = (offset + max(1, len(data)) - 1) // BLOCK
        self.writes += [(self.number, block) for block in range(offset // BLOCK, last + 1)]

    def resize(self, size: int) -> None:
        """Tracking starts afresh, as on most platforms."""
        del self.content[size:]
        self.content += bytes(size - len(self.content))
        self.epoch += 1

    def lose_changes(self) -> None:
        self.epoch += 1


class MemoryProvider(Provider):
    """Thread-safe. `machines_by_id`: id → disk id → MemoryDisk."""

    component = "provider/memory"

    def __init__(self) -> None:
        self.machines_by_id: dict[str, dict[str, MemoryDisk]] = {}
        self.snapshots: set[str] = set()
        self._counter = 0
        self._lock = threading.Lock()

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """Takes any configuration: there is nothing to configure."""

    def health(self) -> Health:
        return Health(True)

    def machines(self, page_size: int, page_token: str) -> Page[Machine]:
        after = _decoded(page_token)
        ids = [i for i in sorted(self.machines_by_id) if i > after]
        token = base64.urlsafe_b64encode(b"1:" + ids[page_size - 1].encode()).decode() if len(ids) > page_size else ""
        return Page([self.machine(i) for i in ids[:page_size]], token)

    def machine(self, machine_id: str) -> Machine:
        found = self.machines_by_id.get(machine_id)
        if found is None:
            raise NotFound(f"no machine {machine_id!r}", reason="MACHINE_NOT_FOUND")
        disks = [MachineDisk(disk_id, disk_id, len(disk.content)) for disk_id, disk in sorted(found.items())]
        return Machine(machine_id, machine_id, machine_id, disks)

    def open_source(self, machine_id: str, disk_id: str, context: TaskContext) -> BlockSource:
        disk = self._disk(machine_id, disk_id)
        with self._lock:
            self._counter += 1
            snapshot = f"snapshot-{self._counter}"
        context.acquired(snapshot, self.component, {"snapshot": snapshot})
        self.snapshots.add(snapshot)
        return _Frozen(bytes(disk.content), lambda: self._release(snapshot, context))

    def changes(self, machine_id: str, disk_id: str, since: str, context: TaskContext) -> ChangeSet:
        context.check()
        disk = self._disk(machine_id, disk_id)
        token = f"{machine_id}/{disk_id}/{disk.epoch}/{disk.number}"
        size = len(disk.content)
        known = since.rpartition("/")
        if not since or known[0] != token.rpartition("/")[0] or not known[2].isdecimal() or int(known[2]) > disk.number:
            reason = "the change token is not of this disk and epoch" if since else "no change token was given"
            return ChangeSet(True, coalesce(_blocks(disk.content, range(-(-size // BLOCK)))), token, reason)
        changed = sorted({block for number, block in disk.writes if number > int(known[2])})
        return ChangeSet(False, coalesce(_blocks(disk.content, changed)), token)

    def cleanup(self, record: Mapping[str, Any]) -> None:
        self.snapshots.discard(str(record.get("snapshot", "")))

    def _release(self, snapshot: str, context: TaskContext) -> None:
        self.snapshots.discard(snapshot)
        context.released(snapshot)

    def _disk(self, machine_id: str, disk_id: str) -> MemoryDisk:
        found = self.machines_by_id.get(machine_id)
        if found is None:
            raise NotFound(f"no machine {machine_id!r}", reason="MACHINE_NOT_FOUND")
        if disk_id not in found:
            raise NotFound(f"machine {machine_id!r} has no disk {disk_id!r}", reason="DISK_NOT_FOUND")
        return found[disk_id]


class _Frozen(BlockSource):
    """A disk as it was. Closing it releases its snapshot."""

    def __init__(self, content: bytes, release: Any) -> None:
        self._content = content
        self._release = release

    @property
    def size(self) -> int:
        return len(self._content)

    @property
    def granularity(self) -> int:
        return BLOCK

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self.size if length is None else offset + length
        self._check(offset, end)
        return clip(coalesce(_blocks(self._content, range(offset // BLOCK, -(-end // BLOCK)))), offset, end)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check(offset, offset + len(buffer))
        buffer[:] = self._content[offset : offset + len(buffer)]

    def info(self) -> dict[str, Any]:
        return {"format": "memory", "virtual_size": self.size}

    def close(self) -> None:
        self._release()

    def _check(self, offset: int, end: int) -> None:
        if not 0 <= offset <= end <= self.size:
            raise OutOfRange(f"[{offset}, {end}) is not inside {self.size} bytes", reason="OFFSET_PAST_END")


def _blocks(content: bytes | bytearray, numbers: Any) -> Iterator[Extent]:
    for number in numbers:
        offset = number * BLOCK
        data = content[offset : offset + BLOCK]
        if data:
            yield Extent(offset, len(data), ExtentKind.DATA if any(data) else ExtentKind.ZERO)


def _decoded(token: str) -> str:
    if not token:
        return ""
    try:
        text = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except ValueError:
        text = ""
    if not text.startswith("1:"):
        raise InvalidArgument(
            "the page token is not one of this list",
            reason="PAGE_TOKEN_INVALID",
            violations=(FieldViolation("page_token", "must come from the same list"),),
        )
    return text.removeprefix("1:")
