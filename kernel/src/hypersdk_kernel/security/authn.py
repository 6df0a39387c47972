"""From a call's peer and metadata to an actor, or a refusal.

On the unix socket the file's mode is the credential: who could connect is `local`. Over TCP a bearer token is
needed, and who has it is `token`. A service's process has a token of its own, good on both, and is
`service/<connection>`. Tokens have 256 bits, so guessing is hopeless; throttling is for what a guesser costs us. It
slows only wrong answers down: the right token always passes at once, or one process on this machine could lock out all
others.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from hypersdk.errors import ResourceExhausted, Unauthenticated

from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.security.tokens import verify

LOCAL = "local"
TOKEN = "token"  # noqa: S105 - the name of an actor


class FailureThrottle:
    """A bucket of `burst` failures an address, refilled by `per_second`. Remembers the last `addresses` ones."""

    def __init__(self, clock: Clock, *, burst: int = 10, per_second: float = 1.0, addresses: int = 1024) -> None:
        self._clock = clock
        self._burst = burst
        self._rate = per_second
        self._addresses = addresses
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, address: str) -> float:
        """Count a failure; seconds until the next one is welcome, 0 while the bucket is not empty."""
        now = self._clock.monotonic()
        left, then = self._buckets.pop(address, (float(self._burst), now))
        left = min(left + (now - then) * self._rate, self._burst) - 1.0
        self._buckets[address] = (max(left, -float(self._burst)), now)
        if len(self._buckets) > self._addresses:
            self._buckets.popitem(last=False)
        return 0.0 if left >= 0 else -left / self._rate


class Authenticator:
    """Judges every call. `token`: what TCP clients must show; None when there is no TCP listener."""

    def __init__(self, token: str | None, clock: Clock) -> None:
        self._token = token
        self._throttle = FailureThrottle(clock)
        self._minted: dict[str, str] = {}

    @property
    def needs_metadata(self) -> bool:
        """Whether a call on the unix socket may have a token: no unary call pays for reading it otherwise."""
        return bool(self._minted)

    def mint(self, actor: str) -> str:
        """A token of its own for `actor`, good until `revoke` or the daemon's end."""
        token = secrets.token_urlsafe(32)
        self._minted[_digest(token)] = actor
        return token

    def revoke(self, token: str) -> None:
        self._minted.pop(_digest(token), None)

    def actor(self, peer: str, metadata: Iterable[tuple[str, Any]] | None) -> str:
        """`local`, `token`, or whom a token was minted for. `peer` as gRPC writes it. Raises
        Unauthenticated (TOKEN_MISSING, TOKEN_WRONG), ResourceExhausted (AUTHENTICATION_THROTTLED)."""
        if peer.startswith("unix:"):
            return self._minted.get(_digest(_bearer(metadata)), LOCAL) if self._minted else LOCAL
        given = next((value for key, value in metadata or () if key == "authorization"), "")
        scheme, _, token = str(given).partition(" ")
        minted = self._minted.get(_digest(token.strip())) if scheme.lower() == "bearer" else None
        if minted is not None:
            return minted
        if self._token is not None and scheme.lower() == "bearer" and verify(token.strip(), self._token):
            return TOKEN
        wait_s = self._throttle.failed(peer.rpartition(":")[0])
        if wait_s > 0:
            raise ResourceExhausted(
                "too many calls without the right token came from this address; wait, then send the right one",
                reason="AUTHENTICATION_THROTTLED",
                retry_after_s=wait_s,
            )
        if not given:
            raise Unauthenticated(
                "this listener needs `authorization: Bearer <token>`; the token is in the file `token` of the daemon's "
                "state directory",
                reason="TOKEN_MISSING",
            )
        raise Unauthenticated(
            "the token is not the daemon's; read it again from the file `token` of its state directory",
            reason="TOKEN_WRONG",
        )


def _bearer(metadata: Iterable[tuple[str, Any]] | None) -> str:
    given = next((value for key, value in metadata or () if key == "authorization"), "")
    scheme, _, token = str(given).partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(token: str) -> str:
    """What is looked up is not the token itself, so that the time of a look-up tells nothing of it."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
