"""Connections: configured providers, storages and other components that need configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Connection:
    """A configured component. `config` holds secret *references* where the component's schema says `secret: true`."""

    id: str
    uid: str
    component: str
    config: Mapping[str, Any]
    create_time: float
    update_time: float
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0

    @property
    def name(self) -> str:
        return f"connections/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'


@dataclass(frozen=True, slots=True)
class ResolvedConnection:
    """A connection with its secrets' values, on its way to a host or a runner. Never stored, never logged."""

    name: str
    component: str
    config: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        return {"name": self.name, "config": dict(self.config), "secrets": dict(self.secrets)}
