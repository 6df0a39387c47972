"""Provider: the contract of `hypersdk.provider` plugins: a platform that has machines with disks.

An instance belongs to one connection. Its life: created with no arguments, `configure(config, secrets)`, then
inventory
calls (C) in the control host or, in a runner, `open_source`/`changes`/`open_target`, then `close()`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from hypersdk.errors import Unsupported

if TYPE_CHECKING:
    from hypersdk.data.extent import Extent
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource
    from hypersdk.plugin.task import TaskContext

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; `next_token` is opaque and empty on the last page."""

    items: Sequence[T]
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class MachineDisk:
    """A virtual disk of a machine.

    id             resource id, unique in its machine, `^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`
    size_bytes     virtual size; -1 when unknown without opening it
    format         how the platform stores it ("qcow2"); empty when it is no image file
    platform_id    the platform's own name of it (a path, a UUID), for people and for `open_source`
    details        `content_version`, where given, differs whenever the content may have changed: an interrupted copy
    goes
                   on only under the same one
    """

    id: str
    display_name: str
    size_bytes: int
    format: str = ""
    platform_id: str = ""
    allocated_bytes: int = -1
    bus: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Nic:
    id: str
    mac_address: str = ""
    network: str = ""
    model: str = ""


PowerState = Literal["unknown", "off", "on", "suspended"]
Firmware = Literal["unknown", "bios", "efi"]


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine as the platform tells it. `id` as in MachineDisk; 0 means not known for counts and sizes."""

    id: str
    display_name: str
    platform_id: str
    disks: Sequence[MachineDisk] = ()
    nics: Sequence[Nic] = ()
    power_state: PowerState = "unknown"
    cpu_count: int = 0
    memory_bytes: int = 0
    firmware: Firmware = "unknown"
    guest_os: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """`ok`, and if not, why and what to do, in one sentence. `latency_s` of the platform's cheapest call."""

    ok: bool
    message: str = ""
    latency_s: float = 0.0
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A disk to be created on the platform by `open_target`."""

    display_name: str
    size_bytes: int
    format: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What changed on a disk between two change tokens.

    full      the platform could not tell (`reason` says why): `extents` cover the whole disk
    extents   in order, not overlapping; DATA for bytes that may differ, ZERO for ranges that are zero or a hole now
              (which must be emitted: dropping them leaves stale bytes after a restore)
    token     names the state that `extents` lead to; empty when the platform has none
    """

    full: bool
    extents: Iterator[Extent]
    token: str
    reason: str = ""


class Provider(abc.ABC):
    """A platform with machines. Not thread-safe unless the manifest's concurrency says so."""

    @abc.abstractmethod
    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """(CR) Called once before anything else. `config` has passed the manifest's config schema; `secrets` holds
        the resolved values of its `secret: true` fields. Raises InvalidArgument naming the field; no network here."""

    @abc.abstractmethod
    def health(self) -> Health:
        """(C) Can the platform be reached with this configuration? Never raises for an unreachable platform."""

    @abc.abstractmethod
    def machines(self, page_size: int, page_token: str) -> Page[Machine]:
        """(C) Machines in a stable order. Raises InvalidArgument (PAGE_TOKEN_INVALID) for a token not ours."""

    @abc.abstractmethod
    def machine(self, machine_id: str) -> Machine:
        """(CR) One machine with all its disks. Raises NotFound (MACHINE_NOT_FOUND)."""

    @abc.abstractmethod
    def open_source(self, machine_id: str, disk_id: str, context: TaskContext) -> BlockSource:
        """(R) The disk as a readable BlockSource of guest bytes, frozen at one point in time. Image files are decoded
        through `context.open_image`; leases and snapshots taken for it are told to `context.acquired`."""

    def changes(self, machine_id: str, disk_id: str, since: str, context: TaskContext) -> ChangeSet:
        """(R) What changed since a token; `since` "" asks for a full answer with the first one. Called while a source
        of the same disk, opened with the same context, is open: extents and token are of that source's point in time.
        A token that is lost, expired, foreign or from before a resize gives a full answer that says why, never an
        increment (hypersdk.testing.extent_law). Capability `cbt`."""
        raise Unsupported("this provider has no change tracking", reason="CHANGE_TRACKING_UNSUPPORTED")

    def open_target(self, spec: DiskSpec, context: TaskContext) -> BlockSink:
        """(R) A new disk to write to. Capability `import`."""
        raise Unsupported("this provider cannot create disks", reason="IMPORT_UNSUPPORTED")

    def create_machine(self, machine: Machine, disks: Sequence[str], context: TaskContext) -> str:
        """(R) A new machine from disks that `open_target` made; returns its id. Capability `import`."""
        raise Unsupported("this provider cannot create machines", reason="IMPORT_UNSUPPORTED")

    def cleanup(self, record: Mapping[str, Any]) -> None:
        """(R) Release what a dead runner told `context.acquired` (a snapshot, a lease). Idempotent."""

    def close(self) -> None:
        """(CR) Release connections. Idempotent."""
