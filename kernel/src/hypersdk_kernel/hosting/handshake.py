"""The handshake: a fresh host is told what it is, and either serves exactly that or is refused.

Not here: starting the process, and what happens to a refused one (host_process, host).
"""

from __future__ import annotations

from typing import Any

from hypersdk.errors import HyperError, Unavailable
from hypersdk.plugin.manifest import API_VERSION

from hypersdk_kernel.hosting.peer import Peer, PeerGone
from hypersdk_kernel.model.plugin import Generation

PROTOCOL = 1


class HandshakeFailed(Unavailable):
    """The host did not come up. `metadata["cause"]` is the reason the host gave, if it gave one."""

    default_reason = "HOST_START_FAILED"


async def handshake(peer: Peer, generation: Generation, timeout_s: float) -> Any:
    """Introduce `generation` to the host behind `peer`; its answer. Raises HandshakeFailed."""
    manifest = generation.manifest
    assert manifest is not None, "only generations with a manifest get a host"
    try:
        answer = await peer.request(
            "initialize",
            {
                "protocol": PROTOCOL,
                "generation": generation.name,
                "search_path": list(generation.search_path),
                "components": dict(generation.entries),
                "manifest": manifest.to_json(),
            },
            timeout_s,
        )
    except PeerGone as exc:
        cause = peer.failure or exc
        raise _failed(generation, f"it ended before it was ready ({cause.message})", cause.reason) from exc
    except HyperError as exc:
        raise _failed(generation, exc.message, exc.reason) from exc
    fault = _fault(answer, generation)
    if fault:
        raise _failed(generation, fault, "HANDSHAKE_INVALID")
    return answer


def _fault(answer: object, generation: Generation) -> str:
    if not isinstance(answer, dict):
        return "its answer to initialize is no object"
    if answer.get("protocol") != PROTOCOL:
        return f"it speaks protocol {answer.get('protocol')!r}, the kernel {PROTOCOL}"
    major = str(answer.get("api_version")).partition(".")[0]
    if major != str(API_VERSION[0]):
        return f"its runtime has api {answer.get('api_version')!r}, the kernel {API_VERSION[0]}.{API_VERSION[1]}"
    listed = answer.get("components")
    served = {str(name) for name in listed} if isinstance(listed, list) else set()
    if missing := sorted(generation.entries.keys() - served):
        return f"it does not serve {', '.join(missing)}"
    if missing := _unanswered(answer.get("rpcs"), generation):
        return f"its classes have no method marked with rpc for {', '.join(missing)}"
    extra = sorted(served - generation.entries.keys())
    return f"it serves {', '.join(extra)[:200]}, which its manifest does not declare" if extra else ""


def _unanswered(rpcs: object, generation: Generation) -> list[str]:
    """gRPC methods that the manifest's descriptor sets declare and the host does not answer."""
    told = rpcs if isinstance(rpcs, dict) else {}
    components = generation.manifest.components.values() if generation.manifest is not None else ()
    missing: set[str] = set()
    for component in components:
        answered = told.get(component.name)
        if component.own is not None:
            missing |= {*component.own.methods} - {str(m) for m in answered or () if isinstance(answered, list)}
    return sorted(missing)


def not_started(generation: Generation, error: HyperError) -> HandshakeFailed:
    """What is said when there is nothing to shake hands with."""
    return _failed(generation, error.message, error.reason)


def _failed(generation: Generation, why: str, cause: str) -> HandshakeFailed:
    return HandshakeFailed(
        f"the host of {generation.distribution} {generation.version} did not start: {why}",
        metadata={"generation": generation.name, "cause": cause},
    )
