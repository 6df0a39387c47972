"""Exit codes. Decided here alone, from the error tree.

    0    done
    1    failed
    2    the command or a value in it is wrong
    3    part of it was done: some connections did not answer
    4    not authenticated or not allowed
    5    not found
    6    conflicts with the present state
    7    the daemon, or what it needs, is not available now
    130  interrupted

`image compare` answers as qemu-img does: 0 the same, 1 different, 2 and more for errors (see image/compare.py).
"""

from __future__ import annotations

from hypersdk import errors
from hypersdk.errors import HyperError

OK = 0
FAILED = 1
USAGE = 2
PARTIAL = 3
AUTH = 4
NOT_FOUND = 5
CONFLICT = 6
UNAVAILABLE = 7
INTERRUPTED = 130

_BY_CLASS: dict[type[HyperError], int] = {
    errors.InvalidArgument: USAGE,
    errors.Unauthenticated: AUTH,
    errors.PermissionDenied: AUTH,
    errors.NotFound: NOT_FOUND,
    errors.AlreadyExists: CONFLICT,
    errors.Aborted: CONFLICT,
    errors.Unsupported: FAILED,
    errors.FailedPrecondition: CONFLICT,
    errors.Unavailable: UNAVAILABLE,
    errors.DeadlineExceeded: UNAVAILABLE,
}


def code_for(error: HyperError) -> int:
    """The exit code of an error: that of the nearest class in the tree that has one."""
    for cls in type(error).__mro__:
        if cls in _BY_CLASS:
            return _BY_CLASS[cls]
    return FAILED
