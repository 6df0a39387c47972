"""Redactor: takes the exact values of secrets out of what is about to be written or sent.

A last line of defence for messages, log fields and printed lines. It knows values, not meanings: a secret
that a plugin encodes, splits or hashes is not recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MIN_SECRET_CHARS = 4
"""Shorter values are left alone: replacing every `a` would destroy the text and hide nothing."""
MASK = "[redacted]"


class Redactor:
    """Holds secret values; grows by `add`. Thread-safe: the tuple of values is replaced, never changed."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Longest first, so that a secret which contains another is replaced whole."""
        known = {*self._secrets, *(s for s in secrets if isinstance(s, str) and len(s) >= MIN_SECRET_CHARS)}
        self._secrets = tuple(sorted(known, key=lambda s: (-len(s), s)))

    def text(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def value(self, value: Any) -> Any:
        """The same JSON-able value with every string in it redacted, keys too."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.value(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(v) for v in value]
        return value
