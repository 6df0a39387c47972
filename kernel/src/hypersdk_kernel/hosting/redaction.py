"""The kernel's own `redact` hook: fields of a host's log records whose name says that they are secret.

The host has already replaced the secrets it was given; this catches what a plugin calls a password by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypersdk_kernel.hosting.hookspecs import hookimpl

REPLACEMENT = "[redacted]"
_SECRET = re.compile(r"passw(or)?d|passphrase|secret|token|(api|private)_?key|credential|authorization", re.IGNORECASE)


class SecretFields:
    """Registered with the plugin manager of the registry."""

    @hookimpl
    def redact(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: REPLACEMENT for key in fields if _SECRET.search(key)}
