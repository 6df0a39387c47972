"""Limits on what runs at once, how often jobs start, and how fast they move data together. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Scope(enum.StrEnum):
    """What a limit counts by."""

    ALL = "all"
    TASK = "task"
    CONNECTION = "connection"
    REPOSITORY = "repository"
    OWNER = "owner"
    LABEL = "label"


ANY = "*"
"""As a limit's `value`: each value has a count of its own."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Of the jobs in `scope` with `value`.

    value            a task's id, a connection's or repository's id, an owner, or a label's value; `*`: each by itself
    label            with Scope.LABEL: the label's key
    max_running      at once; 0: no such limit
    max_starts       in any `period_s` seconds; 0: no such limit
    bandwidth_bytes  a second, shared by those that run; 0: no such limit
    window           id of the window while which is open it holds; empty: always
    """

    id: str
    scope: Scope
    value: str = ""
    label: str = ""
    max_running: int = 0
    max_starts: int = 0
    period_s: float = 60.0
    bandwidth_bytes: int = 0
    window: str = ""
    display_name: str = ""
    create_time: float = 0.0
    update_time: float = 0.0
    revision: int = 0

    @property
    def name(self) -> str:
        return f"limits/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'

    def keys(self, facts: Facts) -> tuple[tuple[str, str], ...]:
        """The counts of this limit that a job with `facts` is in: (limit id, value)."""
        values = facts.values(self.scope, self.label)
        if self.scope is Scope.ALL or self.value == ANY:
            return tuple((self.id, value) for value in values)
        return ((self.id, self.value),) if self.value in values else ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What limits count a job by; and whether it is `brief`, which is a queue of its own."""

    task: str
    owner: str
    labels: Mapping[str, str] = field(default_factory=dict)
    connections: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    brief: bool = False

    def values(self, scope: Scope, label: str) -> tuple[str, ...]:
        if scope is Scope.LABEL:
            return (self.labels[label],) if label in self.labels else ()
        return {
            Scope.ALL: ("",),
            Scope.TASK: (self.task,),
            Scope.OWNER: (self.owner,),
            Scope.CONNECTION: self.connections,
            Scope.REPOSITORY: self.repositories,
        }[scope]
