"""Where the daemon is, found without flags.

The order: an explicit argument, then the environment (HYPERSDK_ADDRESS, HYPERSDK_STATE_DIR, HYPERSDK_CA_FILE,
HYPERSDK_TOKEN_FILE), then the unix socket in the state directory of this user. The daemon writes its socket, its CA
and its token into that directory, readable by their owner only; so whoever may read them needs to configure nothing.

Not here: opening anything. `discover` does no I/O, and a missing file is reported by whoever reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypersdk.errors import InvalidArgument

SOCKET_NAME = "hypersdkd.sock"
_TCP = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A daemon to talk to.

    target      `unix:/path` or `host:port`, as gRPC takes it
    ca_file     PEM of the CA that signed the daemon's certificate; None on a unix socket
    token_file  holds the bearer token; None on a unix socket, where the socket's mode is the credential
    """

    target: str
    ca_file: Path | None = None
    token_file: Path | None = None

    @property
    def is_unix(self) -> bool:
        return self.target.startswith("unix:")


def default_state_dir(environ: Mapping[str, str] | None = None, *, uid: int | None = None) -> Path:
    """The daemon's state directory for this user, by the same rule as the daemon's own."""
    env = os.environ if environ is None else environ
    if env.get("HYPERSDK_STATE_DIR"):
        return Path(env["HYPERSDK_STATE_DIR"])
    if (os.geteuid() if uid is None else uid) == 0:
        return Path("/var/lib/hypersdk")
    base = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(base) / "hypersdk"


def discover(
    address: str = "",
    *,
    state_dir: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    token_file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Endpoint:
    """The endpoint by the rules of this module. Raises InvalidArgument (ADDRESS_INVALID)."""
    env = os.environ if environ is None else environ
    state = Path(state_dir) if state_dir else default_state_dir(env)
    target = address or env.get("HYPERSDK_ADDRESS") or f"unix:{(state / SOCKET_NAME).absolute()}"
    if target.startswith("unix:"):
        path = target.removeprefix("unix:")
        if not path.startswith("/"):
            raise _invalid(target)
        return Endpoint("unix:/" + path.lstrip("/"))
    if not _TCP.fullmatch(target) or int(target.rpartition(":")[2]) > 65535:
        raise _invalid(target)
    return Endpoint(
        target,
        ca_file=Path(ca_file or env.get("HYPERSDK_CA_FILE") or state / "tls" / "ca.pem"),
        token_file=Path(token_file or env.get("HYPERSDK_TOKEN_FILE") or state / "token"),
    )


def _invalid(target: str) -> InvalidArgument:
    return InvalidArgument(
        f"{target[:120]!r} is no address of a daemon; give `unix:/absolute/path` or `host:port`",
        reason="ADDRESS_INVALID",
    )
