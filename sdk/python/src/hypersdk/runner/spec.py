"""The spec: everything a runner is told, as docs/host-protocol.md lists it. It holds secrets: it is read
from a memory file and never written anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.runner.log import FILE_BYTES, FILES

PROTOCOL = 1
MIN_FILE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A component to import: `entry` is `module:Class`, `manifest` its part of manifest.json. With `host`, the words
    that start its host, it is not written in Python and is not imported; `package` is then the whole manifest."""

    entry: str
    search_path: tuple[str, ...]
    manifest: Mapping[str, Any]
    host: tuple[str, ...] = ()
    package: Mapping[str, Any] = field(default_factory=dict)
    generation: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionSpec:
    """A granted connection: the component that serves it, its configuration and resolved secrets."""

    component: str
    config: Mapping[str, Any]
    secrets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """One attempt. `task` is the id of the component `task/<id>`; `outstanding` is for mode `cleanup`
    only."""

    mode: Literal["run", "cleanup"]
    job: str
    attempt: int
    task: str
    spec: Mapping[str, Any]
    job_dir: Path
    attempt_dir: Path
    listen_fd: int
    lock_fd: int
    bandwidth_limit_bytes: int = 0
    orphan_s: int = 0
    parent_pid: int = 0
    paused: bool = False
    log_file_bytes: int = FILE_BYTES
    log_files: int = FILES
    confine: Mapping[str, Any] = field(default_factory=dict)
    traceparent: str = ""
    components: Mapping[str, ComponentSpec] = field(default_factory=dict)
    connections: Mapping[str, ConnectionSpec] = field(default_factory=dict)
    outstanding: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def secrets(self) -> Iterator[str]:
        for connection in self.connections.values():
            yield from connection.secrets.values()


def read(fd: int) -> RunnerSpec:
    """Read and close the memory file. Raises InvalidArgument (RUNNER_SPEC_INVALID)."""
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb") as file:
        return parse(file.read())


@dataclass(frozen=True, slots=True)
class BriefSpec:
    """A worker for brief tasks: what it imports, where its journal lies, and its end of the kernel's socket."""

    pool_dir: Path
    socket_fd: int
    lock_fd: int
    components: Mapping[str, ComponentSpec] = field(default_factory=dict)
    confine: Mapping[str, Any] = field(default_factory=dict)


def read_brief(fd: int) -> BriefSpec:
    """Read and close the memory file. Raises InvalidArgument (RUNNER_SPEC_INVALID)."""
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb") as file:
        data = _document(file.read())
    return BriefSpec(
        pool_dir=Path(_get(data, "pool_dir", str)),
        socket_fd=_get(data, "socket_fd", int),
        lock_fd=_get(data, "lock_fd", int),
        components={k: _component(k, v) for k, v in _get(data, "components", dict, {}).items()},
        confine=_get(data, "confine", dict, {}),
    )


def _document(text: bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _invalid("", f"is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise _invalid("", "is not an object")
    if data.get("protocol") != PROTOCOL:
        raise _invalid("protocol", f"is {data.get('protocol')!r}; this runner speaks {PROTOCOL}")
    return data


def parse(text: bytes) -> RunnerSpec:
    data = _document(text)
    mode = data.get("mode", "run")
    if mode not in {"run", "cleanup"}:
        raise _invalid("mode", "must be run or cleanup")
    return RunnerSpec(
        mode=mode,
        job=_get(data, "job", str),
        attempt=_get(data, "attempt", int),
        task=_get(data, "task", str),
        spec=_get(data, "spec", dict, {}),
        job_dir=Path(_get(data, "job_dir", str)),
        attempt_dir=Path(_get(data, "attempt_dir", str)),
        listen_fd=_get(data, "listen_fd", int),
        lock_fd=_get(data, "lock_fd", int),
        bandwidth_limit_bytes=max(0, _get(data, "bandwidth_limit_bytes", int, 0)),
        orphan_s=max(0, _get(data, "orphan_s", int, 0)),
        parent_pid=max(0, _get(data, "parent_pid", int, 0)),
        paused=_get(data, "paused", bool, False),
        log_file_bytes=max(MIN_FILE_BYTES, _get(data, "log_file_bytes", int, FILE_BYTES)),
        log_files=max(1, _get(data, "log_files", int, FILES)),
        confine=_get(data, "confine", dict, {}),
        traceparent=_get(data, "traceparent", str, ""),
        components={k: _component(k, v) for k, v in _get(data, "components", dict, {}).items()},
        connections={k: _connection(k, v) for k, v in _get(data, "connections", dict, {}).items()},
        outstanding=_get(data, "outstanding", dict, {}),
    )


def _component(name: str, data: Any) -> ComponentSpec:
    path = f"components.{name}"
    if not isinstance(data, dict):
        raise _invalid(path, "is not an object")
    search_path = _get(data, "search_path", list, [], path)
    manifest = _get(data, "manifest", dict, {}, path)
    host = tuple(map(str, _get(data, "host", list, [], path)))
    return ComponentSpec(
        _get(data, "entry", str, None, path), tuple(map(str, search_path)), manifest, host,
        _get(data, "package", dict, {}, path), _get(data, "generation", str, "", path),
    )  # fmt: skip


def _connection(name: str, data: Any) -> ConnectionSpec:
    path = f"connections.{name}"
    if not isinstance(data, dict):
        raise _invalid(path, "is not an object")
    config = _get(data, "config", dict, {}, path)
    secrets = _get(data, "secrets", dict, {}, path)
    return ConnectionSpec(_get(data, "component", str, None, path), config, {k: str(v) for k, v in secrets.items()})


def _get(data: Mapping[str, Any], key: str, kind: type, default: Any = None, path: str = "") -> Any:
    """`data[key]`, which must be a `kind`; a default that is not None stands for absent and null."""
    value = data.get(key)
    if value is None:
        value = default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _invalid(f"{path}.{key}" if path else key, f"must be a {kind.__name__}")
    return value


def _invalid(field_name: str, text: str) -> InvalidArgument:
    return InvalidArgument(
        f"runner spec: {field_name or 'it'} {text}",
        reason="RUNNER_SPEC_INVALID",
        violations=(FieldViolation(field_name, text),),
    )
