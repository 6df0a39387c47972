"""What an adapter is given: one call, and the standard parts of its request message.

The kernel has validated the message by its proto rules, so the checks here only keep a broken kernel from
reaching a plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """component  `kind/id`; manifest: its part of manifest.json
    connection    resource name (`connections/lab`), empty for kinds without connections
    message       the request message, proto3 JSON with proto field names
    log           (level, event, fields) towards the kernel; secrets are redacted
    """

    component: str
    manifest: Mapping[str, Any]
    connection: str = ""
    message: Mapping[str, Any] = field(default_factory=dict)
    log: Callable[[str, str, dict[str, Any]], None] = lambda _level, _event, _fields: None

    def text(self, name: str) -> str:
        value = self.message.get(name, "")
        if not isinstance(value, str):
            raise _wrong(name, "must be a string")
        return value

    def page_size(self) -> int:
        """1 to 1000; absent or 0 is 50."""
        try:
            wanted = int(self.message.get("page_size") or DEFAULT_PAGE_SIZE)
        except (TypeError, ValueError):
            raise _wrong("page_size", "must be an integer") from None
        if wanted < 0:
            raise _wrong("page_size", "must not be negative")
        return min(wanted, MAX_PAGE_SIZE)

    def child(self, collection: str) -> str:
        """The id in `name` = `<connection>/<collection>/<id>`; the id may contain slashes."""
        prefix = f"{self.connection}/{collection}/"
        name = self.text("name")
        if not name.startswith(prefix) or len(name) == len(prefix):
            raise _wrong("name", f"must begin with {prefix!r} and name one of them")
        return name[len(prefix) :]


def _wrong(name: str, text: str) -> InvalidArgument:
    return InvalidArgument(f"request field {name} {text}", violations=(FieldViolation(name, text),))
