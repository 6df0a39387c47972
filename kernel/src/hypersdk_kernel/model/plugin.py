"""Plugins and their generations.

INSTALLED ─▶ PROBING ─▶ ACTIVE ─▶ DRAINING ─▶ RETIRED          FAILED from any of the first three, with the reason
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypersdk.plugin.manifest import ComponentManifest, Manifest


class GenerationState(enum.StrEnum):
    INSTALLED = "installed"
    PROBING = "probing"
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
class Generation:
    """One build of a plugin.

    number       counts from 1 in the plugin, never reused
    digest       hex SHA-256 over names and contents of its files
    origin       bundled (in the kernel's environment), editable, installed (in the store)
    entries      component name → "module:Class"
    search_path  folders that a child puts before its module path; empty for the kernel's own environment
    manifest     None when it could not be read; then the state is FAILED, or the build has gone
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
    present: bool = True
    failure_reason: str = ""
    failure_message: str = ""

    @property
    def name(self) -> str:
        return f"plugins/{self.plugin_id}/generations/{self.number}"

    @property
    def api_version(self) -> str:
        return "" if self.manifest is None else ".".join(map(str, self.manifest.api_version))


@dataclass(frozen=True, slots=True)
class ActiveComponent:
    """A component of the generation that answers new calls."""

    manifest: ComponentManifest
    generation: Generation

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def entry(self) -> str:
        """`module:Class`."""
        return self.generation.entries[self.manifest.name]


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


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed distribution. `generations` in order of number; at most one is ACTIVE."""

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
