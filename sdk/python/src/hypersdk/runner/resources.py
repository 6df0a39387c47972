"""Resources: what the attempts of a job hold outside the runner (a snapshot, an upload, a partial file).

Written to the journal, durably, before they can leak; an attempt that dies leaves them to the next one or
to a cleanup run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from hypersdk.errors import InvalidArgument
from hypersdk.runner.journal import FILE_NAME, Journal, read_records
from hypersdk.wire.redact import MIN_SECRET_CHARS

CLEANUP_DIR = "cleanup"
"""Below the directory of the attempt after which a cleanup run cleaned up."""
UNMISTAKABLE_CHARS = 12
"""A secret as short as `vmware` may be part of a path by chance; one of this length is not."""


class Held(TypedDict):
    """One resource: whose `cleanup(record)` releases it, and the record."""

    component: str
    record: Mapping[str, Any]


def of_earlier_attempts(attempts_dir: Path, before: int) -> dict[str, Held]:
    """What the journals of the attempts 1 … before-1 acquired and none of them released."""
    held: dict[str, Held] = {}
    for attempt in range(1, before):
        folder = attempts_dir / str(attempt)
        for journal in (folder / FILE_NAME, folder / CLEANUP_DIR / FILE_NAME):
            for record in read_records(journal, "acquired", "released"):
                resource_id = str(record.get("resource_id"))
                if record["type"] == "released":
                    held.pop(resource_id, None)
                else:
                    held[resource_id] = held_from_json(record)
    return held


def held_from_json(record: Mapping[str, Any]) -> Held:
    return Held(component=str(record.get("component")), record=dict(record.get("record") or {}))


class Resources:
    """The resources of a job as this attempt knows them. Thread-safe."""

    def __init__(self, journal: Journal, earlier: Mapping[str, Held], secrets: Iterable[str]) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._earlier = dict(earlier)
        self._own: dict[str, Held] = {}
        self._secrets = frozenset(s for s in secrets if len(s) >= MIN_SECRET_CHARS)

    def acquired(self, resource_id: str, component: str, record: Mapping[str, Any]) -> None:
        """Durable on return. Raises InvalidArgument (SECRET_IN_RECORD): masked, the record would be of no use
        for cleanup; unmasked, the secret would be on disk."""
        held = Held(component=component, record=dict(record))
        if any(self._is_secret(text) for text in _strings({"id": resource_id, **held})):
            raise InvalidArgument(
                f"the record of {resource_id!r} holds the value of a secret; leave it out, cleanup is called "
                "on the configured connection",
                reason="SECRET_IN_RECORD",
            )
        with self._lock:
            self._journal.append("acquired", {"resource_id": resource_id, **held}, sync=True, verbatim=True)
            self._own[resource_id] = held

    def released(self, resource_id: str) -> None:
        """Not synced: forgetting it costs a second, idempotent cleanup."""
        with self._lock:
            if resource_id in self._own or resource_id in self._earlier:
                self._journal.append("released", {"resource_id": resource_id}, verbatim=True)
                self._own.pop(resource_id, None)
                self._earlier.pop(resource_id, None)

    def earlier(self) -> dict[str, Held]:
        """Of earlier attempts, not released yet."""
        with self._lock:
            return dict(self._earlier)

    def outstanding(self) -> list[str]:
        """Ids of all that is held still, of this attempt and of earlier ones."""
        with self._lock:
            return [*self._earlier, *(k for k in self._own if k not in self._earlier)]

    def _is_secret(self, text: str) -> bool:
        return text in self._secrets or any(s in text for s in self._secrets if len(s) >= UNMISTAKABLE_CHARS)


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON-able value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
