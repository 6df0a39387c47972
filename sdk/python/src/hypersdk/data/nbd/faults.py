"""What can go wrong with an NBD server, as errors of the tree.

violation    it said something that the protocol does not allow; never worth another try
lost         the connection ended; what was under way may or may not have been done
overdue      it said nothing for too long
refused      it answered a request with an error number, or a negotiation with a refusal
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from hypersdk.data.nbd import constants as c
from hypersdk.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    HyperError,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unsupported,
)

_MAX_SHOWN = 200


def violation(text: str) -> DataLoss:
    return DataLoss(f"the NBD server broke the protocol: {text}", reason="NBD_PROTOCOL_VIOLATION")


def lost(text: str) -> Unavailable:
    return Unavailable(f"the NBD server is gone: {text}", reason="NBD_CONNECTION_LOST")


def overdue(doing: str, seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the NBD server did not answer within {seconds:g} s: {doing}", reason="NBD_TIMEOUT")


def shown(text: bytes) -> str:
    """A server's words, fit for a message: bounded, and without control characters."""
    return "".join(ch if ch.isprintable() else "�" for ch in text[:_MAX_SHOWN].decode("utf-8", "replace"))


_NUMBERS: dict[int, Callable[..., HyperError]] = {
    errno.EPERM: partial(PermissionDenied, reason="NBD_REQUEST_DENIED"),
    errno.EIO: partial(DataLoss, reason="INPUT_OUTPUT_ERROR"),
    errno.ENOMEM: partial(ResourceExhausted, reason="NBD_SERVER_EXHAUSTED"),
    errno.ENOSPC: partial(ResourceExhausted, reason="DISK_FULL"),
    errno.EOVERFLOW: partial(OutOfRange, reason="OUT_OF_RANGE"),
    errno.ENOTSUP: partial(Unsupported, reason="NBD_REQUEST_UNSUPPORTED"),
    errno.ESHUTDOWN: partial(Unavailable, reason="NBD_SERVER_STOPPING"),
}
_OTHER_NUMBER = partial(FailedPrecondition, reason="NBD_REQUEST_REFUSED")


def refused(number: int, doing: str, words: bytes = b"") -> HyperError:
    """The answer `number` (NBD's numbers are Linux's) to a request."""
    name = errno.errorcode.get(number, str(number))
    said = f": {shown(words)}" if words else ""
    make = _NUMBERS.get(number, _OTHER_NUMBER)
    return make(f"the NBD server answered {doing} with {name}{said}", metadata={"errno": name})


def not_negotiated(kind: int, export: str, words: bytes) -> HyperError:
    """The server's error reply to NBD_OPT_GO."""
    said = f": {shown(words)}" if words else ""
    if kind == c.REP_ERR_UNKNOWN:
        return NotFound(f"the NBD server has no export {export!r}{said}", reason="NBD_EXPORT_UNKNOWN")
    if kind == c.REP_ERR_TLS_REQD:
        return Unsupported(f"the NBD server insists on TLS, which this client has not{said}", reason="NBD_TLS_REQUIRED")
    if kind == c.REP_ERR_SHUTDOWN:
        return Unavailable(f"the NBD server is stopping{said}", reason="NBD_SERVER_STOPPING")
    if kind == c.REP_ERR_UNSUP:
        return Unsupported(
            f"the NBD server has no NBD_OPT_GO; it is older than the protocol we speak{said}",
            reason="NBD_SERVER_TOO_OLD",
        )
    return FailedPrecondition(
        f"the NBD server refused the export {export!r} (reply {kind - c.REP_ERROR}){said}", reason="NBD_EXPORT_REFUSED"
    )
