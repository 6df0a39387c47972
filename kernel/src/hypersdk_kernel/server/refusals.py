"""Any exception as a gRPC answer. A client sees the error tree and never a traceback: what we did not expect becomes
an INTERNAL with an id, under which the log has the rest."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from hypersdk.errors import DeadlineExceeded, HyperError, Internal, from_exception

from hypersdk_kernel.services.status import status_of

DETAILS_KEY = "grpc-status-details-bin"
"""Where grpc-status and its kin in other languages look for google.rpc.Status."""

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


async def refuse(
    context: Any, log: Any, exc: Exception, told: Callable[[HyperError], None] | None = None
) -> NoReturn:
    """End the call with what `exc` says. `told` hears it too."""
    error = _known(exc, log)
    if told is not None:
        told(error)
    log.info("call_refused", kind=error.kind, reason=error.reason, message=error.message)
    status = status_of(error)
    await context.abort(_CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError  # abort has raised; this tells the type checker


def _known(exc: Exception, log: Any) -> HyperError:
    if isinstance(exc, HyperError):
        return exc
    if isinstance(exc, TimeoutError):
        return DeadlineExceeded("the call took longer than its deadline; ask with a later one", reason="CALL_TIMEOUT")
    error = from_exception(exc)
    if not isinstance(error, Internal):
        return error
    error_id = secrets.token_hex(8)
    log.error("call_failed", error_id=error_id, exc_info=exc)
    return Internal(
        f"an unexpected error of the kernel; its log has it under {error_id}: report it with that part of the log",
        reason="UNEXPECTED_EXCEPTION",
        metadata={"error_id": error_id},
    )
