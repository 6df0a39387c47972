"""The listener for runners on other machines, put together from the daemon's settings (`runner_port` and its like)."""

from __future__ import annotations

import socket

from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.executors import Executors
from hypersdk_kernel.engine.remoterunner import PING_ANSWER_S, RemoteSettings
from hypersdk_kernel.engine.remotes import Remotes
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.server.config import Settings
from hypersdk_kernel.server.database import LOST_MARGIN_S
from hypersdk_kernel.server.statedir import StateDir


def server_names(settings: Settings) -> set[str]:
    """Beside localhost, what the server's certificate is for."""
    return {socket.gethostname(), *settings.tls_names}


def make_remotes(
    settings: Settings, state: StateDir, clock: Clock, registry: Registry, hosts: HostPool, connections: Connections
) -> Remotes:
    """Not started yet. Raises FailedPrecondition (STATE_DIR_UNSAFE)."""
    from hypersdk_kernel.security.attempts import AttemptAuthority  # 0.1 s of cryptography, for those who want it
    from hypersdk_kernel.security.tls import ensure_tls

    material = ensure_tls(state.path, server_names(settings), clock.now())
    remote = RemoteSettings(
        orphan_s=round(settings.runner_orphan_s),
        lost_after_s=settings.runner_orphan_s * 1.25 + PING_ANSWER_S + LOST_MARGIN_S,
        place_s=settings.runner_place_s,
        work_dir=settings.runner_work_dir,
        log_limit=settings.log_file_bytes * settings.log_files,
    )
    executors = Executors(registry, hosts, connections)
    return Remotes(AttemptAuthority(state.path, material), executors, clock, remote, settings.runner_address)
