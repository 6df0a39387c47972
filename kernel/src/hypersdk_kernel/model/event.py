"""Events: the durable, numbered record of what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """`type` is `noun.verbed` or `job.<state>`; `subject` a resource name; `actor` who caused it (`local`, `token`,
    `kernel`,
    `runner`). Revisions grow by one and are never reused. `payload` is JSON-able; a `job.*` event's payload holds
    `job`, the
    whole job as store.codec writes it, so that a watcher needs no second read."""

    revision: int
    time: float
    type: str
    subject: str
    actor: str
    payload: Mapping[str, Any] = field(default_factory=dict)
