"""An error of the tree as google.rpc.Status: code, message and details. The only place that knows codes.

Details: ErrorInfo always; BadRequest for field violations; RetryInfo when a wait is known; Help, a link to the
reason's entry. They travel in a trailer, and HTTP/2 peers refuse more than 8 KiB of headers, so every part is
bounded.
"""

from __future__ import annotations

from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from hypersdk.errors import HyperError, InvalidArgument

from hypersdk_kernel.services.values import duration

DOMAIN = "hypersdk.dev"
HELP_URL = "https://hypersdk.dev/docs/errors#"

MAX_MESSAGE_BYTES = 800
MAX_DETAILS_BYTES = 3600
"""In base64 4,800, and with the message (percent-encoded threefold at worst) still below 8 KiB."""
MAX_VIOLATIONS = 20
MAX_VALUE_BYTES = 240

_CODES: dict[str, int] = {
    "InvalidArgument": Code.INVALID_ARGUMENT,
    "FailedPrecondition": Code.FAILED_PRECONDITION,
    "Unsupported": Code.FAILED_PRECONDITION,
    "OutOfRange": Code.OUT_OF_RANGE,
    "NotFound": Code.NOT_FOUND,
    "AlreadyExists": Code.ALREADY_EXISTS,
    "Aborted": Code.ABORTED,
    "PermissionDenied": Code.PERMISSION_DENIED,
    "Unauthenticated": Code.UNAUTHENTICATED,
    "ResourceExhausted": Code.RESOURCE_EXHAUSTED,
    "Unavailable": Code.UNAVAILABLE,
    "DeadlineExceeded": Code.DEADLINE_EXCEEDED,
    "Cancelled": Code.CANCELLED,
    "DataLoss": Code.DATA_LOSS,
    "MalformedImage": Code.DATA_LOSS,
    "Internal": Code.INTERNAL,
}


def code_name(error: HyperError) -> str:
    """The status code's name: `NOT_FOUND`."""
    name: str = Code.Name(_CODES[error.kind])
    return name


def status_of(error: HyperError) -> Status:
    """The whole status, within the bounds above."""
    status = Status(code=_CODES[error.kind], message=clip(error.message, MAX_MESSAGE_BYTES))
    room = MAX_DETAILS_BYTES - status.ByteSize()
    for detail in _details(error):
        size = detail.ByteSize() + 64
        if size <= room:
            status.details.add().Pack(detail)
            room -= size
    return status


def _details(error: HyperError) -> list[Message]:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in list(error.metadata.items())[:8]:
        info.metadata[clip(key, 64)] = clip(value, MAX_VALUE_BYTES)
    details: list[Message] = [info]
    if error.retry_after_s is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration(max(error.retry_after_s, 0.0))))
    url = f"{HELP_URL}{error.reason.lower()}"
    details.append(error_details_pb2.Help(links=[{"description": "What it means and what to do", "url": url}]))
    if isinstance(error, InvalidArgument) and error.violations:
        details.append(_bad_request(error, MAX_DETAILS_BYTES // 2))
    return details


def _bad_request(error: InvalidArgument, room: int) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in error.violations[:MAX_VIOLATIONS]:
        field, text = clip(violation.field, MAX_VALUE_BYTES), clip(violation.description, MAX_VALUE_BYTES)
        room -= len(field.encode()) + len(text.encode()) + 16
        if room < 0:
            break
        bad.field_violations.add(field=field, description=text, reason=error.reason)
    return bad


def clip(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8, without lone surrogates; a cut is shown by an ellipsis."""
    data = text.encode("utf-8", "replace")
    if len(data) <= size:
        return data.decode()
    return data[: size - 3].decode("utf-8", "ignore") + "…"
