"""A seccomp filter (seccomp(2)): system calls that no plugin has a use for fail with EPERM, for this process and
whatever it starts. Written as classic BPF by hand, because the standard library has no assembler for it.

Not a list of what is allowed: a plugin brings libraries whose calls nobody has listed. Denied is what reaches into
other processes, the kernel, mounts, keys, clocks and namespaces, and io_uring, which would do some of it unseen.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence

_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARG0 = 0, 4, 16
_PR_GET_SECCOMP, _PR_SET_SECCOMP, _MODE_FILTER = 21, 22, 2
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020000
_X32 = 0x40000000
"""Numbers from here on are x86-64's second table of the same calls."""

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables below, AUDIT_ARCH_*."""
_DENIED: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "iopl": (172, -1), "ioperm": (173, -1), "modify_ldt": (154, -1), "acct": (163, 89),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "mknod": (133, -1),
    "mknodat": (259, 33), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "setns": (308, 268),
    "unshare": (272, 97), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116),
    "personality": (135, 92), "vhangup": (153, 58), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}  # fmt: skip
_CLONE, _CLONE3, _FORK, _SOCKET = (56, 220), (435, 435), ((57, -1), (58, -1)), (41, 198)
_KILL = ((62, 129), (234, 131), (129, 138), (297, 240))
"""kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo: their first argument is a process."""
_KILL_ANY = ((200, 130), (424, 424))
"""tkill, pidfd_send_signal."""
FAMILIES = {"inet": 2, "inet6": 10, "netlink": 16, "unix": 1}

_Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def program(
    machine: str, *, processes: bool, families: Sequence[int] | None, signals_of: int = 0
) -> list[_Instruction]:
    """The filter for a machine (`x86_64`, `aarch64`; KeyError for others) as (code, jt, jf, k).

    processes   it may start programs; else it may start threads only
    families    of the sockets that it may make (`FAMILIES`); None: of any
    signals_of  not 0: the process that may be sent signals, and no other
    """
    column, arch = _MACHINES[machine]
    out: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH), (_JEQ, 1, 0, arch), (_RET, 0, 0, _ERRNO | _EPERM), (_LOAD, 0, 0, _NR),
    ]  # fmt: skip
    if machine == "x86_64":
        out += [(_JGE, 0, 1, _X32), (_RET, 0, 0, _ERRNO | _EPERM)]

    def on(numbers: tuple[int, int], *block: _Instruction) -> None:
        if numbers[column] >= 0:
            out.append((_JEQ, 0, len(block), numbers[column]))
            out.extend(block)

    deny: _Instruction = (_RET, 0, 0, _ERRNO | _EPERM)
    allow: _Instruction = (_RET, 0, 0, _ALLOW)
    for numbers in _DENIED.values():
        on(numbers, deny)
    on(_CLONE3, (_RET, 0, 0, _ERRNO | _ENOSYS))  # its flags are out of a filter's sight; the C library takes clone
    flags: _Instruction = (_LOAD, 0, 0, _ARG0)
    if processes:
        on(_CLONE, flags, (_JSET, 0, 1, _CLONE_NEW), deny, allow)
    else:
        on(_CLONE, flags, (_JSET, 2, 0, _CLONE_NEW), (_JSET, 0, 1, _CLONE_THREAD), allow, deny)
        for numbers in _FORK:
            on(numbers, deny)
    if families is not None:
        known = [(_JEQ, len(families) - at, 0, family) for at, family in enumerate(families)]
        on(_SOCKET, flags, *known, (_RET, 0, 0, _ERRNO | _EACCES), allow)
    if signals_of:
        for numbers in _KILL:
            on(numbers, flags, (_JEQ, 1, 0, signals_of), deny, allow)
        for numbers in _KILL_ANY:
            on(numbers, deny)
    out.append(allow)
    return out


def available() -> str:
    """Why a filter cannot be set here; empty when it can."""
    if platform.machine() not in _MACHINES:
        return f"no filter has been written for {platform.machine()}"
    return "" if ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0 else "this kernel has no seccomp"


def install(*, processes: bool, families: Sequence[int] | None, signals_of: int = 0) -> str:
    """Set the filter, for ever; see `program`. What kept it from being set; empty when it is. Call it before there are
    threads, after no_new_privs."""
    missing = available()
    if missing:
        return missing
    rows = program(platform.machine(), processes=processes, families=families, signals_of=signals_of)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
    described = _Program(len(rows), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(described), 0, 0) != 0:
        return f"the kernel refused the filter: {os.strerror(ctypes.get_errno())}"
    return ""
