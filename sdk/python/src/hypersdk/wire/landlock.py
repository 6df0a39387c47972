"""Landlock (landlock(7)): which files, TCP ports and processes this process may still reach, from now on and for ever.

What is not listed is denied. A rule is of the file that lies at a path when it is made, with everything below it; a
file that comes later to a place above is not covered.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_ALL_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Access rights to files that each version knows; from the fifth on 16."""
_BIND, _CONNECT = 1, 2
_SCOPES = 3
"""Abstract unix sockets and signals."""
READ = _EXECUTE | _READ_FILE | _READ_DIR
NETWORK_SINCE, SCOPES_SINCE = 4, 6


def version() -> int:
    """The version of the kernel's interface; 0 when it has none."""
    found = _syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def restrict(
    *,
    read: Iterable[str] = (),
    write: Iterable[str] = (),
    files: bool = True,
    ports: Sequence[int] | None = None,
    bind: bool = True,
) -> str:
    """Give everything up but what is listed. What kept it from being done; empty when it is done.

    files  restrict files: `read` may be read and run, `write` also written, changed, made and removed
    ports  that may be connected to; None: any
    bind   ports may be listened on

    As far as the kernel's version goes; `version` says how far that is. Signals to, and abstract sockets of, processes
    outside are always given up. Call it before there are threads, after no_new_privs.
    """
    known = version()
    if known == 0:
        return "this kernel has no Landlock"
    every = (1 << _ALL_BITS.get(known, 16)) - 1
    net = 0
    if known >= NETWORK_SINCE:
        net = (0 if ports is None else _CONNECT) | (0 if bind else _BIND)
    scopes = _SCOPES if known >= SCOPES_SINCE else 0
    handled = every if files else 0
    if not handled and not net and not scopes:
        return "this kernel's Landlock is too old for what was asked"
    attributes = struct.pack("=QQQ", handled, net, scopes)[: 24 if known >= SCOPES_SINCE else 16 if known >= 4 else 8]
    ruleset = _syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return f"the kernel refused the ruleset: {os.strerror(ctypes.get_errno())}"
    try:
        if files:
            for paths, access in ((read, READ), (write, every)):
                for path in paths:
                    _allow(ruleset, path, access & every)
        for port in ports or () if net & _CONNECT else ():
            _syscall(_ADD, ruleset, _NET_PORT, struct.pack("=QQ", _CONNECT, port), ctypes.c_uint32(0))
        if _syscall(_RESTRICT, ruleset, ctypes.c_uint32(0)) != 0:
            return f"the kernel refused the restriction: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return ""


def around(root: str, spared: Sequence[str]) -> Iterator[str]:
    """Paths that together are `root` without what is `spared` (absolute, without links). Links are left out: what they
    lead to is found where it lies. Of a folder above something spared, only what is in it now."""
    if any(root == path or root.startswith(path.rstrip("/") + "/") for path in spared):
        return
    if not any(path.startswith(root.rstrip("/") + "/") for path in spared):
        yield root
        return
    try:
        entries = list(os.scandir(root))
    except OSError:
        return
    for entry in entries:
        if not entry.is_symlink():
            yield from around(entry.path, spared)


def _allow(ruleset: int, path: str, access: int) -> None:
    """A rule; nothing for what is not there."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            access &= _OF_FILES
        _syscall(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, handle), ctypes.c_uint32(0))
    finally:
        os.close(handle)


def _syscall(number: int, *arguments: object) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    return int(syscall(ctypes.c_long(number), *arguments))
