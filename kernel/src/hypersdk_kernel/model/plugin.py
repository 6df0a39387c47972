"""Plugins and their generations.

INSTALLED ─▶ PROBING ─▶ ACTIVE ─▶ DRAINING ─▶ RETIRED     FAILED from any of the first three and CANARY, with the reason
                │         ▲ all        ▲
                └─▶ CANARY┴─ withdrawn ┘                   a share of new calls and jobs, beside the ACTIVE one
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypersdk.plugin.manifest import ComponentManifest, Manifest


class GenerationState(enum.StrEnum):
    INSTALLED = "installed"
    PROBING = "probing"
    CANARY = "canary"
    ACTIVE = "active"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"


class HostState(enum.StrEnum):
    IDLE = "idle"
    STARTING = "starting"
    SERVING = "serving"
    BACKING_OFF = "backing_off"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an installed build came from.

    via     `path` (of a wheel on the daemon's machine), `upload`, `plugins.d`, `wheels` (plugin_wheels), `index`;
            empty: the daemon's own environment, or not known
    source  the wheel's file name, or the requirement
    sha256  of the wheel, hex; empty from an index, which gives out files and not the wheel
    signer  id of the key whose signature was checked; empty: none was
    actor   who installed it
    """

    via: str = ""
    source: str = ""
    sha256: str = ""
    signer: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """One build of a plugin.

    number       counts from 1 in the plugin, never reused
    digest       hex SHA-256 over names and contents of its files
    origin       bundled (in the kernel's environment), editable, installed (in the store)
    entries      component name → "module:Class"
    search_path  folders that a child puts before its module path; empty for the kernel's own environment
    manifest     None when it could not be read; then the state is FAILED, or the build has gone
    seal         hex SHA-256 over everything in its folder of the store; empty for the kernel's own environment
    state_time   since when it is in its state, seconds since the epoch; 0: since `install_time`
    canary_percent  of new calls and jobs, what it gets; 0 unless it is CANARY
    present      its files are there as they were: it can be started. Not so for an earlier state of an editable or
                 bundled distribution
    """

    plugin_id: str
    number: int
    distribution: str
    version: str
    digest: str
    origin: str
    state: GenerationState
    entries: Mapping[str, str]
    manifest: Manifest | None
    search_path: tuple[str, ...] = ()
    activate_time: float | None = None
    install_time: float = 0.0
    state_time: float = 0.0
    canary_percent: int = 0
    seal: str = ""
    present: bool = True
    failure_reason: str = ""
    failure_message: str = ""
    provenance: Provenance = Provenance()

    @property
    def name(self) -> str:
        return f"plugins/{self.plugin_id}/generations/{self.number}"

    @property
    def runnable(self) -> bool:
        """Whether a host or a runner of it can be started: its files are there, and nothing spoke against it."""
        return self.present and self.manifest is not None and self.state is not GenerationState.FAILED

    @property
    def api_version(self) -> str:
        return "" if self.manifest is None else ".".join(map(str, self.manifest.api_version))


@dataclass(frozen=True, slots=True)
class ActiveComponent:
    """A component of a generation that answers new calls."""

    manifest: ComponentManifest
    generation: Generation

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def entry(self) -> str:
        """`module:Class`."""
        return self.generation.entries[self.manifest.name]


class ConfinementState(enum.StrEnum):
    ENFORCED = "enforced"
    UNAVAILABLE = "unavailable"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Confinement:
    """One thing that keeps a host to what its manifest says: in force, not to be had on this machine, or not wanted."""

    mechanism: str
    state: ConfinementState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """How a generation's host fares. Times in seconds since the epoch, sizes in bytes."""

    state: HostState = HostState.IDLE
    pid: int = 0
    start_time: float | None = None
    restart_count: int = 0
    call_count: int = 0
    error_count: int = 0
    in_flight_count: int = 0
    resident_bytes: int = 0
    last_error: str = ""
    confinement: tuple[Confinement, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How the process of a service connection fares. `addresses`: where it listens, as bound."""

    connection: str
    component: str
    generation: str
    state: HostState
    pid: int = 0
    start_time: float | None = None
    restart_count: int = 0
    resident_bytes: int = 0
    addresses: tuple[str, ...] = ()
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed distribution. `generations` in order of number; at most one is ACTIVE, and beside it at most one
    CANARY."""

    id: str
    distribution: str
    summary: str
    generations: tuple[Generation, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        return f"plugins/{self.id}"

    @property
    def active(self) -> Generation | None:
        return next((g for g in self.generations if g.state is GenerationState.ACTIVE), None)

    @property
    def canary(self) -> Generation | None:
        return next((g for g in self.generations if g.state is GenerationState.CANARY), None)

    @property
    def previous(self) -> Generation | None:
        """The one that was active last before the active one, and could be again."""
        tried = [g for g in self.generations if g.runnable and g is not self.active and g.activate_time is not None]
        return max(tried, key=lambda g: (g.activate_time or 0.0, g.number), default=None)

    def generation(self, number: int) -> Generation | None:
        return next((g for g in self.generations if g.number == number), None)

    def with_generation(self, changed: Generation) -> Plugin:
        """This plugin with `changed` in the place of the generation of its number, or behind the others."""
        others = [g for g in self.generations if g.number != changed.number]
        return replace(self, generations=tuple(sorted([*others, changed], key=lambda g: g.number)))
