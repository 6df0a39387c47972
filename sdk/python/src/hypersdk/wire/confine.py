"""A child gives up what its plugin does not need, before the plugin is imported, and says what it could give up.

The kernel says in the variable HYPERSDK_CONFINE, JSON, what the plugin may do:

    {"mode": "enforce",            off: nothing is given up, but told is what could be
     "files": true,                false: files are not restricted
     "read": ["/"], "write": [],   beside Python and its modules, and what every program reads of the system
     "anywhere": false,            everything may be written
     "spare": ["/var/lib/x"],      is granted neither with `read` nor `anywhere`, whatever lies above it
     "own": ["/var/lib/x/a"],      read all the same
     "families": [2, 10] | null,   of sockets; null: any
     "ports": [443] | null,        TCP ports to connect to; null: any
     "bind": false,                whether TCP ports may be listened on
     "processes": false}           whether programs may be started

What the machine cannot do is reported as unavailable, and the plugin runs nevertheless: an operator who cannot accept
that sees it in `hyperctl plugin health`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from hypersdk.wire import landlock, seccomp

VARIABLE = "HYPERSDK_CONFINE"
_SYSTEM = (
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
    "/usr/share/ca-certificates", "/usr/share/locale", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
    "/etc/localtime", "/etc/timezone", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf",
    "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
    "/etc/mime.types", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/sys/kernel/random",
    "/proc/sys/kernel/osrelease", "/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu",
)  # fmt: skip
"""What the C library, Python and TLS read of any system. Programs are not among it."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")


def from_environ(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What the kernel said; empty when it said nothing."""
    try:
        policy = json.loads(environ.get(VARIABLE, "{}"))
    except ValueError:
        policy = None
    if not isinstance(policy, dict):
        sys.exit(f"{VARIABLE} holds no policy, and running without the one that was meant would be worse")
    return policy


def apply(policy: Mapping[str, Any]) -> list[dict[str, str]]:
    """Give up what `policy` does not grant; what came of it, as {mechanism, state, detail} with a state of `enforced`,
    `unavailable` or `off`. Once, on the main thread, before there are others."""
    version = landlock.version()
    if policy.get("mode") != "enforce":
        return _told_only(version)
    processes, families = bool(policy.get("processes", True)), policy.get("families")
    files, ports, bind = bool(policy.get("files")), policy.get("ports"), bool(policy.get("bind", True))
    scoped = version >= landlock.SCOPES_SINCE
    failed = landlock.restrict(read=_readable(policy), write=_writable(policy), files=files, ports=ports, bind=bind)
    alone = os.getpid() if (failed or not scoped) and not processes else 0
    unfiltered = seccomp.install(processes=processes, families=families, signals_of=alone)
    out = [_row("seccomp", unfiltered, "system calls that reach into other processes and the kernel fail")]
    out.append(
        _row("landlock_files", failed, f"only what the manifest names, and Python itself; Landlock {version}")
        if files
        else _row("landlock_files", "", "", off="its manifest restricts itself in no way")
    )
    if families is not None:
        names = [name for name, number in seccomp.FAMILIES.items() if number in families]
        out.append(_row("sockets", unfiltered, f"only {', '.join(names)}" if names else "none"))
    if ports is not None or not bind:
        old = "" if version >= landlock.NETWORK_SINCE else f"this kernel's Landlock ({version}) knows no ports"
        to = "any" if ports is None else ", ".join(map(str, ports)) or "none"
        out.append(_row("landlock_ports", failed or old, f"connects to {to}" + ("" if bind else "; listens on none")))
    by = "Landlock" if scoped and not failed else "seccomp"
    unsignalled = (failed or "this kernel's Landlock is too old") if by == "seccomp" and not alone else ""
    out.append(_row("signals", unsignalled or (unfiltered if by == "seccomp" else ""), f"to itself only, by {by}"))
    if not processes:
        out.append(_row("no_programs", unfiltered, "it can start threads, and no program"))
    return out


def _readable(policy: Mapping[str, Any]) -> list[str]:
    spared = [os.path.realpath(path) for path in policy.get("spare", ())]
    granted = {os.path.realpath(p) for p in policy.get("read", ()) if os.path.exists(p)}
    python = {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path) if p}
    out = [*policy.get("own", ()), *_SYSTEM]
    for root in sorted(granted | python):
        out += landlock.around(root, spared)
    return out


def _writable(policy: Mapping[str, Any]) -> list[str]:
    out = [*policy.get("write", ()), *_DEVICES]
    if policy.get("anywhere"):
        out += landlock.around("/", [os.path.realpath(path) for path in policy.get("spare", ())])
    return out


def _row(mechanism: str, failed: str, detail: str, off: str = "") -> dict[str, str]:
    state = "off" if off else "unavailable" if failed else "enforced"
    return {"mechanism": mechanism, "state": state, "detail": off or failed or detail}


def _told_only(version: int) -> list[dict[str, str]]:
    filtered = seccomp.available()
    can = f"this machine could (Landlock {version}); set sandbox = enforce"
    can = can if version else "this kernel has no Landlock"
    return [
        _row("seccomp", "", "", off=filtered or "this machine could; set sandbox = enforce"),
        _row("landlock_files", "", "", off=can),
    ]
