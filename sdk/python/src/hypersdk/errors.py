"""The one tree of errors, typed and with a stable reason each.

    HyperError
    ├── InvalidArgument        the request is wrong, whatever the state; carries field violations
    ├── FailedPrecondition     right request, wrong state; retry after changing the state
    │   └── Unsupported        the platform or plugin cannot do this at all
    ├── OutOfRange             an offset, page or revision past what exists
    ├── NotFound
    ├── AlreadyExists
    ├── Aborted                a concurrent change won (etag, lock)
    ├── PermissionDenied
    ├── Unauthenticated
    ├── ResourceExhausted      disk full, quota, rate limit, message too large   (retryable)
    ├── Unavailable            a peer is away; the outcome may be unknown        (retryable)
    ├── DeadlineExceeded                                                         (retryable)
    ├── Cancelled
    ├── DataLoss               bytes are corrupt, truncated or fail their checksum
    │   └── MalformedImage     names the structure and the offset at fault
    └── Internal               a defect of ours or of a plugin

An error is raised where the cause is known and turned once at each edge: to a gRPC status in the kernel's
server, to an exit code in the command line, to a JSON object (`to_json`) between processes. The class says what
kind of answer helps; the `reason` (UPPER_SNAKE_CASE, documented in docs/errors.md) says which case it is.

Not here: gRPC codes, exit codes, wording for terminals.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request: its path in the message (`spec.format`) and what would be right."""

    field: str
    description: str


class HyperError(Exception):
    """Base of the tree.

    message   one sentence for a person: what failed, why, and what to do next
    reason    stable identifier of the case, `^[A-Z][A-Z0-9_]{2,62}$`
    metadata  strings a program may act on (names, paths, numbers as text); never secrets
    retryable the same call may succeed later without anyone changing anything
    retry_after_s  seconds the peer asked us to wait, or None
    """

    kind: ClassVar[str] = "Internal"
    default_reason: ClassVar[str] = "INTERNAL"
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = {k: str(v) for k, v in (metadata or {}).items()}
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s

    def to_json(self) -> dict[str, Any]:
        """The error as a JSON object, the `data` of a JSON-RPC error and a journal's `error`."""
        return {
            "kind": self.kind,
            "reason": self.reason,
            "message": self.message,
            "metadata": self.metadata,
            "retryable": self.retryable,
            "retry_after_s": self.retry_after_s,
        }


class InvalidArgument(HyperError):
    """The request can never succeed as it stands. `violations` says which fields and why."""

    kind = "InvalidArgument"
    default_reason = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, violations: tuple[FieldViolation, ...] = (), **kw: Any) -> None:
        super().__init__(message, **kw)
        self.violations = violations

    def to_json(self) -> dict[str, Any]:
        out = super().to_json()
        out["violations"] = [{"field": v.field, "description": v.description} for v in self.violations]
        return out


class FailedPrecondition(HyperError):
    kind = "FailedPrecondition"
    default_reason = "FAILED_PRECONDITION"


class Unsupported(FailedPrecondition):
    """The platform, format or plugin cannot do this; its manifest says so too."""

    kind = "Unsupported"
    default_reason = "UNSUPPORTED"


class OutOfRange(HyperError):
    kind = "OutOfRange"
    default_reason = "OUT_OF_RANGE"


class NotFound(HyperError):
    kind = "NotFound"
    default_reason = "NOT_FOUND"


class AlreadyExists(HyperError):
    kind = "AlreadyExists"
    default_reason = "ALREADY_EXISTS"


class Aborted(HyperError):
    kind = "Aborted"
    default_reason = "ABORTED"


class PermissionDenied(HyperError):
    kind = "PermissionDenied"
    default_reason = "PERMISSION_DENIED"


class Unauthenticated(HyperError):
    kind = "Unauthenticated"
    default_reason = "UNAUTHENTICATED"


class ResourceExhausted(HyperError):
    kind = "ResourceExhausted"
    default_reason = "RESOURCE_EXHAUSTED"
    default_retryable = True


class Unavailable(HyperError):
    kind = "Unavailable"
    default_reason = "UNAVAILABLE"
    default_retryable = True


class DeadlineExceeded(HyperError):
    kind = "DeadlineExceeded"
    default_reason = "DEADLINE_EXCEEDED"
    default_retryable = True


class Cancelled(HyperError):
    kind = "Cancelled"
    default_reason = "CANCELLED"


class DataLoss(HyperError):
    kind = "DataLoss"
    default_reason = "DATA_LOSS"


class MalformedImage(DataLoss):
    """A structure of an image file is impossible.

    structure  the format's own name of it ("L1 table", "grain directory entry 7")
    offset     where it lies in the file, bytes, or None
    """

    kind = "MalformedImage"
    default_reason = "IMAGE_MALFORMED"

    def __init__(self, message: str, *, structure: str = "", offset: int | None = None, **kw: Any) -> None:
        metadata = dict(kw.pop("metadata", None) or {})
        if structure:
            metadata["structure"] = structure
        if offset is not None:
            metadata["offset"] = str(offset)
        super().__init__(message, metadata=metadata, **kw)
        self.structure = structure
        self.offset = offset


class Internal(HyperError):
    kind = "Internal"
    default_reason = "INTERNAL"


KINDS: dict[str, type[HyperError]] = {
    cls.kind: cls
    for cls in (
        InvalidArgument, FailedPrecondition, Unsupported, OutOfRange, NotFound, AlreadyExists, Aborted,
        PermissionDenied, Unauthenticated, ResourceExhausted, Unavailable, DeadlineExceeded, Cancelled,
        DataLoss, MalformedImage, Internal,
    )
}  # fmt: skip


def from_json(data: Mapping[str, Any]) -> HyperError:
    """The error that `to_json` described. A kind we do not know becomes Internal; nothing in `data` is trusted
    to be of the right type, because it may come from a plugin."""
    cls = KINDS.get(str(data.get("kind")), Internal)
    raw_metadata = data.get("metadata")
    kw: dict[str, Any] = {
        "reason": str(data.get("reason") or cls.default_reason),
        "metadata": {str(k): str(v) for k, v in raw_metadata.items()} if isinstance(raw_metadata, dict) else {},
        "retryable": bool(data.get("retryable", cls.default_retryable)),
    }
    wait = data.get("retry_after_s")
    kw["retry_after_s"] = float(wait) if isinstance(wait, int | float) else None
    if cls is InvalidArgument:
        rows = data.get("violations")
        kw["violations"] = tuple(
            FieldViolation(str(row.get("field", "")), str(row.get("description", "")))
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict)
        )
    return cls(str(data.get("message") or "no message given"), **kw)


_OS_ERRORS: dict[int, tuple[type[HyperError], str]] = {
    errno.ENOSPC: (ResourceExhausted, "DISK_FULL"),
    errno.EDQUOT: (ResourceExhausted, "DISK_FULL"),
    errno.EFBIG: (ResourceExhausted, "FILE_TOO_LARGE"),
    errno.EMFILE: (ResourceExhausted, "TOO_MANY_OPEN_FILES"),
    errno.ENFILE: (ResourceExhausted, "TOO_MANY_OPEN_FILES"),
    errno.ENOENT: (NotFound, "FILE_NOT_FOUND"),
    errno.ENOTDIR: (NotFound, "FILE_NOT_FOUND"),
    errno.EISDIR: (InvalidArgument, "NOT_A_FILE"),
    errno.ELOOP: (PermissionDenied, "SYMBOLIC_LINK_REFUSED"),
    errno.EEXIST: (AlreadyExists, "FILE_EXISTS"),
    errno.EACCES: (PermissionDenied, "FILE_PERMISSION"),
    errno.EPERM: (PermissionDenied, "FILE_PERMISSION"),
    errno.EROFS: (FailedPrecondition, "FILE_SYSTEM_READ_ONLY"),
    errno.ENAMETOOLONG: (InvalidArgument, "NAME_TOO_LONG"),
    errno.EIO: (DataLoss, "INPUT_OUTPUT_ERROR"),
}


def from_exception(exc: BaseException, *, doing: str = "") -> HyperError:
    """Any exception as one of the tree. HyperErrors pass through; an OSError keeps what its errno says (a full
    disk is a retryable ResourceExhausted); everything else is Internal and names its type."""
    if isinstance(exc, HyperError):
        return exc
    prefix = f"{doing}: " if doing else ""
    if isinstance(exc, OSError) and exc.errno is not None:
        cls, reason = _OS_ERRORS.get(exc.errno, (Internal, "OS_ERROR"))
        where = f" ({exc.filename!r})" if exc.filename is not None else ""
        return cls(
            f"{prefix}{exc.strerror or 'operating system error'}{where}",
            reason=reason,
            metadata={"errno": errno.errorcode.get(exc.errno, str(exc.errno))},
        )
    if isinstance(exc, MemoryError):
        return ResourceExhausted(f"{prefix}out of memory", reason="OUT_OF_MEMORY")
    return Internal(f"{prefix}{type(exc).__name__}: {exc}", reason="UNEXPECTED_EXCEPTION")


__all__ = [
    "KINDS", "Aborted", "AlreadyExists", "Cancelled", "DataLoss", "DeadlineExceeded", "FailedPrecondition",
    "FieldViolation", "HyperError", "Internal", "InvalidArgument", "MalformedImage", "NotFound", "OutOfRange",
    "PermissionDenied", "ResourceExhausted", "Unauthenticated", "Unavailable", "Unsupported", "from_exception",
    "from_json",
]  # fmt: skip
