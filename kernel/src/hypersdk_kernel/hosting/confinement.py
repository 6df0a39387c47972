"""What a host is confined to: from its manifest and the daemon's settings to what the host is told
(hypersdk.wire.confine).

    of a manifest                installed from a wheel       in the daemon's own environment
    with `filesystem`            what it names, no more       what it names, no more
    without                      Python and its own files     files, sockets and programs as the daemon

A host whose plugin works on paths that come with calls is started with those that are known; when a call names one that
is not granted, it is replaced by one that has it. The daemon's own state directory is spared whatever is granted.

Not here: doing it (the host does, before it imports the plugin), and limits (watchdog).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypersdk.plugin.manifest import Manifest

from hypersdk_kernel.model.plugin import Confinement, ConfinementState, Generation

VARIABLE = "HYPERSDK_CONFINE"
_FAMILIES = {"inet": 2, "inet6": 10, "netlink": 16, "unix": 1}
_MOST_PATHS = 256
_DEEPEST = 8
_STATES = {state.value: state for state in ConfinementState}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The daemon's settings. `state_dir`: what no plugin may read but its own folder below."""

    enforced: bool = False
    state_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Grants:
    """What one host process was told. `known`: for each folder above the spared one, what was in it."""

    policy: Mapping[str, Any]
    roots: frozenset[str] = frozenset()
    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    spare: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(self.policy)}

    def lacks(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` that another process could be granted and this one is not."""
        if not self.policy.get("files"):
            return []
        return [path for path in paths if not self._has(os.path.realpath(path))]

    def _has(self, path: str) -> bool:
        if self.spare and (path == self.spare or path.startswith(self.spare + "/")):
            return True  # spared on purpose: no other process would have it
        whole = self.roots - self.known.keys()
        if any(path == root or path.startswith(root.rstrip("/") + "/") for root in whole):
            return True
        for folder, names in self.known.items():
            inside = path.removeprefix(folder.rstrip("/") + "/")
            if inside != path and inside.partition("/")[0] in names:
                return True
        return path in self.known


def declares(generation: Generation) -> bool:
    """Whether a generation's host gets what its manifest names and no more."""
    manifest = generation.manifest
    return manifest is not None and (manifest.filesystem is not None or generation.origin == "installed")


def grants(generation: Generation, sandbox: Sandbox, paths: Iterable[str] = (), processes: int = 0) -> Grants:
    """For a host of `generation` that is about to be started. `paths`: of its connections' configs. Lists folders."""
    if not sandbox.enforced:
        return Grants({"mode": "off"})
    manifest = generation.manifest
    assert manifest is not None, "only generations with a manifest get a host"
    if not declares(generation):
        return Grants({"mode": "enforce", "files": False})
    needs = manifest.filesystem or ()
    named = [need.removeprefix("path:") for need in needs if need.startswith("path:")]
    read = [path for path in named if not path.endswith(":write")]
    write = [*(path.removesuffix(":write") for path in named if path.endswith(":write")), *sorted(paths)]
    if "any:read" in needs or "any:write" in needs:
        read.append("/")
    spare = os.path.realpath(sandbox.state_dir) if sandbox.state_dir is not None else ""
    families, ports = _network(manifest)
    policy = {
        "mode": "enforce", "files": True, "read": read, "write": write, "spare": [spare] if spare else [],
        "anywhere": "any:write" in needs, "own": list(generation.search_path), "families": families, "ports": ports,
        "bind": False, "processes": processes > 0,
    }  # fmt: skip
    known = _folders_above(spare) if "/" in read else {}
    return Grants(policy, frozenset(map(os.path.realpath, [*read, *write])), known, spare)


def config_paths(manifest: Manifest | None, config: Mapping[str, Any]) -> list[str]:
    """What `config:FIELD` needs of a manifest name in this configuration."""
    needs = (manifest.filesystem or ()) if manifest is not None else ()
    found = [config.get(need.removeprefix("config:")) for need in needs if need.startswith("config:")]
    return [path for path in found if isinstance(path, str) and path.startswith("/")]


def paths_in(value: Any, depth: int = 0) -> Iterator[str]:
    """The absolute paths that a request names."""
    if isinstance(value, str):
        if value.startswith("/") and len(value) < _DEEPEST * 1024 and "\0" not in value:
            yield value
    elif depth < _DEEPEST and isinstance(value, Mapping):
        for item in list(value.values())[:_MOST_PATHS]:
            yield from paths_in(item, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list):
        for item in value[:_MOST_PATHS]:
            yield from paths_in(item, depth + 1)


def told(answer: Any) -> tuple[Confinement, ...]:
    """What a host's answer to `initialize` says of its confinement; of a host that says nothing, that."""
    rows = answer.get("confinement") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        text = "its runtime does not say"
        return (Confinement("landlock_files", ConfinementState.UNAVAILABLE, text),
                Confinement("seccomp", ConfinementState.UNAVAILABLE, text))  # fmt: skip
    return tuple(
        Confinement(
            str(row.get("mechanism"))[:64],
            _STATES.get(str(row.get("state")), ConfinementState.UNAVAILABLE),
            str(row.get("detail"))[:200],
        )
        for row in rows[:32] if isinstance(row, dict)
    )  # fmt: skip


def verified(rows: tuple[Confinement, ...], pid: int) -> tuple[Confinement, ...]:
    """`rows`, with what the operating system itself says of the process: a host cannot claim a filter it has not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return rows
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    filtered, privs = lines.get("Seccomp", "0").strip() == "2", lines.get("NoNewPrivs", "0").strip() == "1"
    out = [
        row if row.mechanism != "seccomp" or row.state is not ConfinementState.ENFORCED or filtered
        else Confinement("seccomp", ConfinementState.UNAVAILABLE, "it says so, and the operating system does not")
        for row in rows
    ]  # fmt: skip
    state = ConfinementState.ENFORCED if privs else ConfinementState.UNAVAILABLE
    return (Confinement("no_new_privs", state, "it gains no rights by starting a program" if privs else ""), *out)


def _network(manifest: Manifest) -> tuple[list[int], list[int] | None]:
    """Socket families and TCP ports of all components' `network`: `unix`, `:443`, `host:443`; anything else is any
    port."""
    needs = {need for component in manifest.components.values() for need in component.network}
    families = [_FAMILIES["unix"]] if "unix" in needs else []
    needs -= {"unix"}
    if not needs:
        return families, []
    ports = {need.rpartition(":")[2] for need in needs}
    families = [*families, _FAMILIES["inet"], _FAMILIES["inet6"], _FAMILIES["netlink"]]
    whole = all(port.isdecimal() and 0 < int(port) < 65536 for port in ports)
    return families, sorted({int(port) for port in ports} | {53}) if whole else None


def _folders_above(spare: str) -> dict[str, frozenset[str]]:
    """For each folder above `spare` what is in it, but for what leads to `spare`."""
    out: dict[str, frozenset[str]] = {}
    below, folder = spare, os.path.dirname(spare)
    while below != folder:
        try:
            names = {entry.name for entry in os.scandir(folder)}
        except OSError:
            names = set()
        out[folder] = frozenset(names - {os.path.basename(below)})
        below, folder = folder, os.path.dirname(folder)
    return out
