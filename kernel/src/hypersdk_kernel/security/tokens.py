"""The bearer token: 256 random bits in a file that only the daemon's user may read. Whoever has it is the owner.

Not here: roles and keys of several users.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from hypersdk_kernel.security.private import read_private, write_private

TOKEN_BYTES = 32
_SHORTEST = 32
"""Characters; a file with less was not written by us and would be worth guessing at."""


def ensure_token(path: Path) -> str:
    """The token in `path`, generated when the file is missing or too short to be one. Raises FailedPrecondition
    (STATE_DIR_UNSAFE) when others may read it."""
    found = (read_private(path) or b"").decode("ascii", "replace").strip()
    if len(found) >= _SHORTEST:
        return found
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_private(path, f"{token}\n".encode())
    return token


def verify(given: str, token: str) -> bool:
    """Whether they are equal, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
