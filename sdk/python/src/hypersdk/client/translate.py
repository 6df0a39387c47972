"""A failed call as an error of the tree: status code, ErrorInfo, BadRequest violations and RetryInfo.

The mirror image of the kernel's translation. Whatever a server sends, the result is one of `hypersdk.errors`.
"""

from __future__ import annotations

import grpc

from hypersdk import errors
from hypersdk.errors import FieldViolation, HyperError

_BY_CODE: dict[grpc.StatusCode, type[HyperError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRange,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.ABORTED: errors.Aborted,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.DATA_LOSS: errors.DataLoss,
}


def from_rpc_error(exc: grpc.RpcError, *, target: str = "", request_id: str = "") -> HyperError:
    """The error that a failed call of `grpc` or `grpc.aio` stands for. `target` is who was called; `request_id`
    is added to the metadata unless the server named one."""
    code = exc.code() if isinstance(exc, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    details = (exc.details() if isinstance(exc, grpc.Call | grpc.aio.AioRpcError) else str(exc)) or ""
    cls = _BY_CODE.get(code, errors.Internal)
    reason, metadata, violations, retry_after_s, described = _details(exc)
    if reason == errors.Unsupported.default_reason:
        cls = errors.Unsupported
    if code == grpc.StatusCode.UNAVAILABLE and not described:
        details = (
            f"no daemon answers at {target} ({details.rpartition('error: ')[2]}); start it with `hypersdkd`, or set "
            "HYPERSDK_ADDRESS to where it runs"
        )
        reason = "DAEMON_UNREACHABLE"
    if request_id:
        metadata.setdefault("request_id", request_id)
    message = details or f"the daemon answered {code.name} without a message"
    if cls is errors.InvalidArgument:
        return errors.InvalidArgument(
            message, violations=violations, reason=reason, metadata=metadata, retry_after_s=retry_after_s
        )
    return cls(message, reason=reason, metadata=metadata, retry_after_s=retry_after_s)


def _details(
    exc: grpc.RpcError,
) -> tuple[str | None, dict[str, str], tuple[FieldViolation, ...], float | None, bool]:
    """Reason, metadata, violations and retry delay of the rich status, and whether there was one. Imports happen
    here because only failures need them (25 ms)."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(exc)
    except (ValueError, AttributeError):  # a status that contradicts the code; an error without a call
        status = None
    reason: str | None = None
    metadata: dict[str, str] = {}
    violations: list[FieldViolation] = []
    retry_after_s: float | None = None
    for packed in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        wait = error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            reason, metadata = info.reason or None, dict(info.metadata)
        elif packed.Unpack(bad):
            violations += [FieldViolation(row.field, row.description) for row in bad.field_violations]
        elif packed.Unpack(wait):
            retry_after_s = wait.retry_delay.seconds + wait.retry_delay.nanos / 1e9
    return reason, metadata, tuple(violations), retry_after_s, status is not None
