"""SecretSource: the contract of `hypersdk.secrets` plugins: a vault, from which the kernel takes a secret when it is
needed.

A connection of such a component (`connections/vault1`) makes its secrets usable in other connections: a field that the
component's schema marks secret takes the reference `vault1:PATH`, and the kernel calls `resolve("PATH")` for each call
and each attempt of a job that needs the value. Values go on to a host or a runner in a message; they are never stored,
logged or put into an error.

An instance belongs to one connection. Its life: created with no arguments, `configure(config, secrets)`, then `health`
and `resolve`, each any number of times and at once as the manifest's `concurrency` says, then `close()`. Its own
secrets (a vault's token) are `env:` or `file:` references: a vault does not open another.

Duties:

* A path is what somebody typed: traversal, NUL, absolute names are refused and reach nothing outside the vault.
* No error message, log line or exception holds a value.
* Every wait has a limit, below the manifest's time of `Resolve`.
* It keeps no values beyond what its protocol needs: the kernel caches, for at most `ttl_s`.

Not here: writing, listing and rotating secrets.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypersdk.plugin.provider import Health

MAX_SECRET_BYTES = 64 << 10
MAX_PATH_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Secret:
    """A value and how long it may be used without asking again.

    value  text of at most 64 KiB in UTF-8; never shown by repr
    ttl_s  seconds for which the kernel may keep it in memory, 0: for this one use. The kernel keeps it for 300 at most
    """

    value: str = field(repr=False)
    ttl_s: float = 0.0


class SecretSource(abc.ABC):
    """See the module's docstring. All methods are (C)."""

    @abc.abstractmethod
    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """Called once, first. `config` has passed the manifest's schema; `secrets` are the values of its secret
        fields. Opens no connection that could hang: the first `resolve` or `health` does."""

    @abc.abstractmethod
    def health(self) -> Health:
        """Can it be reached, and are we let in? Returns Health(False, why) instead of raising."""

    @abc.abstractmethod
    def resolve(self, ref: str) -> Secret:
        """The secret at `ref`, a path of 1 to 1024 characters in the vault's own form.

        Raises NotFound (SECRET_NOT_FOUND); InvalidArgument (SECRET_PATH_INVALID) of a path that no secret can have;
        PermissionDenied when the vault refuses us; Unavailable (SECRET_SOURCE_UNAVAILABLE, retryable) when it cannot
        be reached or is sealed: then a job waits and tries again instead of failing."""

    def close(self) -> None:
        """Let go of connections."""
