"""From an endpoint to a gRPC channel, sync or async: TLS and the bearer token on TCP, nothing on a unix socket.

Credentials are read when the channel opens and never kept elsewhere. Retries are not configured here: gRPC's own do
not know request ids.
"""

from __future__ import annotations

from pathlib import Path

import grpc

from hypersdk.client.discovery import Endpoint
from hypersdk.errors import HyperError, Unauthenticated, from_exception

_OPTIONS: list[tuple[str, int]] = [
    # A page of 1000 jobs with their results exceeds gRPC's 4 MiB.
    ("grpc.max_receive_message_length", 64 << 20),
    # After a failed connect gRPC refuses calls for 1 s by default, which would swallow all of our retries.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Which gRPC takes for the time that a connection may take to come up: a busy daemon needs more than a moment.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


def open_sync(endpoint: Endpoint) -> grpc.Channel:
    """A channel for blocking calls. Raises Unauthenticated (CREDENTIALS_UNREADABLE)."""
    if endpoint.is_unix:
        return grpc.insecure_channel(endpoint.target, options=_OPTIONS)
    return grpc.secure_channel(endpoint.target, _credentials(endpoint), options=_OPTIONS)


def open_async(endpoint: Endpoint) -> grpc.aio.Channel:
    """A channel for the running event loop. Raises as `open_sync`."""
    if endpoint.is_unix:
        return grpc.aio.insecure_channel(endpoint.target, options=_OPTIONS)
    return grpc.aio.secure_channel(endpoint.target, _credentials(endpoint), options=_OPTIONS)


def _credentials(endpoint: Endpoint) -> grpc.ChannelCredentials:
    root = _read(endpoint.ca_file, "CA certificate", "HYPERSDK_CA_FILE")
    token = _read(endpoint.token_file, "token", "HYPERSDK_TOKEN_FILE").decode("ascii", "replace").strip()
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(root_certificates=root), grpc.access_token_call_credentials(token)
    )


def _read(path: Path | None, what: str, variable: str) -> bytes:
    try:
        return (path or Path()).read_bytes()
    except OSError as exc:
        known: HyperError = from_exception(exc)
        raise Unauthenticated(
            f"cannot read the daemon's {what}: {known.message}; copy it from the daemon's state directory and name it "
            f"in {variable}, or use the daemon's unix socket",
            reason="CREDENTIALS_UNREADABLE", metadata={"path": str(path)},
        ) from exc  # fmt: skip
