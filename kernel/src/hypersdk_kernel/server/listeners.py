"""The gRPC server and where it listens: a unix socket for its owner, TCP with TLS for who has the token."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import grpc
import grpc.aio
from hypersdk.errors import FailedPrecondition

from hypersdk_kernel.security.tls import TlsMaterial

UNARY_CALLS = 4096
"""Unary calls at once, beyond the streams; above it gRPC answers RESOURCE_EXHAUSTED without asking us."""
_UNTAKEN_S = 600
"""A call that the loop has not taken for so long ends in a bare CANCELLED. gRPC's own limit of 30 s is less than a busy
machine may need, and a caller in a hurry has a deadline."""
_MAX_METADATA_BYTES = 16 << 10


def make_server(
    handlers: Sequence[grpc.GenericRpcHandler], *, max_message_bytes: int, max_streams: int
) -> grpc.aio.Server:
    """Bounded in every direction. A client that pings more often than every 10 s, or is silent for a minute and does
    not answer a ping within 20 s, is dropped; one that does not finish its handshake in 10 s too."""
    server = grpc.aio.server(
        maximum_concurrent_rpcs=max_streams + UNARY_CALLS,
        options=(
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            # Of one connection. Not less than all may have: HTTP/2 makes the client wait in silence above it.
            ("grpc.max_concurrent_streams", max_streams + UNARY_CALLS),
            # gRPC ends some of the calls that wait to be taken, from 1,000 on, without a reason; ours has one.
            ("grpc.server.max_pending_requests", max_streams + UNARY_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", 2 * (max_streams + UNARY_CALLS)),
            ("grpc.server_max_unrequested_time_in_server", _UNTAKEN_S),
            ("grpc.so_reuseport", 0),  # or two daemons could share a port
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.max_ping_strikes", 3),
            ("grpc.server_handshake_timeout_ms", 10_000),
        ),
    )
    server.add_generic_rpc_handlers(tuple(handlers))
    return server


def listen_unix(server: grpc.aio.Server, path: Path) -> str:
    """Bind the socket with mode 0600; its address. Raises FailedPrecondition (ADDRESS_UNAVAILABLE)."""
    address = f"unix:{quote(str(path))}"
    before = os.umask(0o177)
    try:
        _bind(address, lambda: server.add_insecure_port(address))
    finally:
        os.umask(before)
    path.chmod(0o600)
    return f"unix:{path}"


def listen_tcp(server: grpc.aio.Server, host: str, port: int, tls: TlsMaterial) -> str:
    """Bind with TLS; `host:port` as bound. Raises FailedPrecondition (ADDRESS_UNAVAILABLE)."""
    shown = f"[{host}]" if ":" in host else host
    credentials = grpc.ssl_server_credentials([(tls.key_pem, tls.certificate_pem)])
    address = f"{shown}:{port}"
    return f"{shown}:{_bind(address, lambda: server.add_secure_port(address, credentials))}"


def _bind(address: str, bind: Callable[[], int]) -> int:
    try:
        bound = bind()
    except RuntimeError:
        bound = 0
    if not bound:
        raise FailedPrecondition(
            f"cannot listen on {address}: it is in use or not ours; choose another tcp_host or tcp_port (0: any)",
            reason="ADDRESS_UNAVAILABLE",
            metadata={"address": address},
        )
    return bound
