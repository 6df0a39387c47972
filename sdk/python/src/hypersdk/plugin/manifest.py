"""The manifest: what a plugin says of itself, readable without importing it.

`manifest.json` is package data beside the class that the entry point names:

    {
      "manifest_version": 1,
      "name": "hypersdk-format-qcow2",            the distribution's name
      "api_version": "1.0",                       the contracts it was written against, major.minor
      "summary": "QCOW2 disk images",
      "host": {"command": [...]},                 only where the host is not Python: hypersdk.plugin.hostcommand
      "components": {
        "format/qcow2": {                         kind/id, one for each entry point
          "summary": "…",
          "aliases": [], "extensions": [".qcow2"],       formats only
          "capabilities": ["read", "write", "resume"],
          "concurrency": "parallel",              serial | per_handle | parallel: calls at once in one host
          "config_schema": {…},                   provider, storage, notifier: JSON Schema of Connection.config; a
                                                  property with "secret": true takes a reference, never a value;
                                                  of services, one with "listen": true is an address to listen on
          "spec_schema": {…},                     task: JSON Schema of Job.spec; see below
          "uses": ["format/*"],                   task, provider: components to import beside it in a runner
          "network": [], "errors": ["…"],
          "methods": {"InspectImage": {"idempotent": true, "timeout_s": 30}},
          "descriptor_set": "notes.binpb"         a gRPC service of its own: a FileDescriptorSet with all imports,
                                                  package data beside this file
        }
      },
      "filesystem": ["any:read"], "limits": {…}          what its host needs: hypersdk.plugin.needs
    }

In a `spec_schema` a string property may carry `"x-hypersdk-resource"`: `"connection"`, `"machine"` (a name that
starts
with a connection's) or `"format"`. From these the kernel knows, without knowing the task, which connections a job is
granted (with their secrets) and which generations it pins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.plugin.hostcommand import HostCommand
from hypersdk.plugin.needs import Limits, parse_filesystem, parse_limits

API_VERSION = (1, 1)
"""Major and minor of the contracts in this SDK."""

KINDS = frozenset(
    {
        "provider",
        "format",
        "storage",
        "pricing",
        "task",
        "notifier",
        "secrets",
        "executor",
        "carbon",
        "service",
        "hooks",
    }
)
MAX_MANIFEST_BYTES = 1 << 20
MAX_DESCRIPTOR_BYTES = 1 << 20

Concurrency = Literal["serial", "per_handle", "parallel"]

_COMPONENT = re.compile(r"^([a-z]+)/([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")
_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$")
_VERSION = re.compile(r"^(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})$")
_CAPABILITY = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_FILE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")
_REASON = re.compile(r"^[A-Z][A-Z0-9_]{2,62}$")


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """How the kernel may call one method. `idempotent`: may be repeated on a fresh host after a crash.
    `timeout_s`: seconds, used when the caller's deadline is later or absent."""

    idempotent: bool = False
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class OwnApi:
    """A component's descriptor set and what it declares, filled in by who reads the plugin's files.

    names    `package:…` and `file:…` that no other plugin may define
    methods  full names of its gRPC methods: `example.notes.v1.NoteService.AddNote`
    """

    data: bytes = field(repr=False)
    names: frozenset[str] = frozenset()
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComponentManifest:
    """One component: `kind`/`id` and what it declares. Mappings are the parsed JSON."""

    kind: str
    id: str
    summary: str = ""
    aliases: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset()
    concurrency: Concurrency = "serial"
    config_schema: Mapping[str, Any] = field(default_factory=dict)
    spec_schema: Mapping[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    methods: Mapping[str, MethodPolicy] = field(default_factory=dict)
    descriptor_set: str = ""
    own: OwnApi | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.id}"

    def secret_fields(self) -> tuple[str, ...]:
        """Top-level config properties that the schema marks `secret: true`."""
        properties = self.config_schema.get("properties")
        if not isinstance(properties, dict):
            return ()
        return tuple(k for k, v in properties.items() if isinstance(v, dict) and v.get("secret") is True)

    def to_json(self) -> dict[str, Any]:
        """As in `manifest.json`, with every default spelled out."""
        return {
            "summary": self.summary,
            "aliases": list(self.aliases),
            "extensions": list(self.extensions),
            "capabilities": sorted(self.capabilities),
            "concurrency": self.concurrency,
            "config_schema": dict(self.config_schema),
            "spec_schema": dict(self.spec_schema),
            "uses": list(self.uses),
            "network": list(self.network),
            "errors": list(self.errors),
            "methods": {
                name: {"idempotent": p.idempotent, "timeout_s": p.timeout_s} for name, p in self.methods.items()
            },
            "descriptor_set": self.descriptor_set,
        }


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole plugin's manifest. `api_version` is (major, minor); `host` None: a Python host serves it."""

    name: str
    api_version: tuple[int, int]
    summary: str
    components: Mapping[str, ComponentManifest]
    host: HostCommand | None = None
    filesystem: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> dict[str, Any]:
        """The document that `parse` turns into this manifest."""
        return {
            "manifest_version": 1,
            "name": self.name,
            "api_version": ".".join(map(str, self.api_version)),
            "summary": self.summary,
            **({"host": self.host.to_json()} if self.host is not None else {}),
            "components": {name: component.to_json() for name, component in self.components.items()},
            **({} if self.filesystem is None else {"filesystem": list(self.filesystem)}),
            **({"limits": limits} if (limits := self.limits.to_json()) else {}),
        }

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """From the JSON text. Raises InvalidArgument (MANIFEST_INVALID) listing every fault found."""
        if len(text) > MAX_MANIFEST_BYTES:
            raise _invalid([FieldViolation("", f"is larger than {MAX_MANIFEST_BYTES} bytes")])
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise _invalid([FieldViolation("", f"is not JSON: {exc}")]) from exc
        faults: list[FieldViolation] = []
        manifest = _parse(data, faults)
        if faults or manifest is None:
            raise _invalid(faults)
        return manifest


def _invalid(faults: list[FieldViolation]) -> InvalidArgument:
    listed = "; ".join(f"{f.field or 'manifest'} {f.description}" for f in faults[:5])
    return InvalidArgument(f"plugin manifest: {listed}", reason="MANIFEST_INVALID", violations=tuple(faults))


def _parse(data: Any, faults: list[FieldViolation]) -> Manifest | None:
    def fault(path: str, text: str) -> None:
        faults.append(FieldViolation(path, text))

    if not isinstance(data, dict):
        fault("", "must be a JSON object")
        return None
    known = {"manifest_version", "name", "api_version", "summary", "host", "components", "filesystem", "limits"}
    for key in data.keys() - known:
        fault(str(key), "is not a manifest field")
    if data.get("manifest_version") != 1 or data.get("manifest_version") is True:
        fault("manifest_version", "must be 1")
    name = data.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        fault("name", "must be the distribution's name")
    version = data.get("api_version")
    match = _VERSION.match(version) if isinstance(version, str) else None
    if match is None:
        fault("api_version", 'must be "major.minor"')
    if not isinstance(data.get("summary", ""), str):
        fault("summary", "must be a string")
    filesystem = parse_filesystem(data.get("filesystem"), fault)
    limits = parse_limits(data.get("limits", {}), fault)
    components: dict[str, ComponentManifest] = {}
    raw = data.get("components")
    if not isinstance(raw, dict) or not raw:
        fault("components", "must be an object with at least one component")
        raw = {}
    for key, value in raw.items():
        component = _parse_component(str(key), value, fault)
        if component is not None:
            components[key] = component
    host = HostCommand.parse(data["host"], fault) if "host" in data else None
    if faults or match is None:
        return None
    summary = str(data.get("summary", ""))
    return Manifest(str(name), (int(match[1]), int(match[2])), summary, components, host, filesystem, limits)


_FIELDS = frozenset(
    {"summary", "aliases", "extensions", "capabilities", "concurrency", "config_schema", "spec_schema", "uses",
     "network", "errors", "methods", "descriptor_set"}
)  # fmt: skip


def _parse_component(key: str, value: Any, fault: Any) -> ComponentManifest | None:
    path = f"components.{key}"
    match = _COMPONENT.match(key)
    if match is None or match[1] not in KINDS:
        fault(path, f"must be kind/id with a kind of {', '.join(sorted(KINDS))}")
        return None
    if not isinstance(value, dict):
        fault(path, "must be an object")
        return None
    for extra in value.keys() - _FIELDS:
        fault(f"{path}.{extra}", "is not a component field")

    def strings(name: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        rows = value.get(name, [])
        if not isinstance(rows, list) or not all(
            isinstance(r, str) and (not pattern or pattern.match(r)) for r in rows
        ):
            fault(f"{path}.{name}", "must be a list of strings" + (f" matching {pattern.pattern}" if pattern else ""))
            return ()
        return tuple(rows)

    def schema(name: str) -> Mapping[str, Any]:
        found = value.get(name, {})
        if not isinstance(found, dict) or (found and found.get("type") != "object"):
            fault(f"{path}.{name}", 'must be a JSON Schema with "type": "object"')
            return {}
        return found

    descriptor_set = value.get("descriptor_set", "")
    if not isinstance(descriptor_set, str) or (descriptor_set and not _FILE.match(descriptor_set)):
        fault(f"{path}.descriptor_set", "must be the name of a file beside manifest.json")
    if not isinstance(value.get("summary", ""), str):
        fault(f"{path}.summary", "must be a string")
    concurrency = value.get("concurrency", "serial")
    if not isinstance(concurrency, str) or concurrency not in {"serial", "per_handle", "parallel"}:
        fault(f"{path}.concurrency", "must be serial, per_handle or parallel")
    return ComponentManifest(
        kind=match[1],
        id=match[2],
        summary=str(value.get("summary", "")),
        aliases=strings("aliases"),
        extensions=strings("extensions"),
        capabilities=frozenset(strings("capabilities", _CAPABILITY)),
        concurrency=concurrency,
        config_schema=schema("config_schema"),
        spec_schema=schema("spec_schema"),
        uses=strings("uses"),
        network=strings("network"),
        errors=strings("errors", _REASON),
        methods=_parse_methods(value.get("methods", {}), path, fault),
        descriptor_set=str(descriptor_set),
    )


def _parse_methods(raw: Any, path: str, fault: Any) -> dict[str, MethodPolicy]:
    if not isinstance(raw, dict):
        fault(f"{path}.methods", "must be an object")
        return {}
    out: dict[str, MethodPolicy] = {}
    for name, policy in raw.items():
        idempotent = policy.get("idempotent", False) if isinstance(policy, dict) else None
        timeout = policy.get("timeout_s", 30.0) if isinstance(policy, dict) else None
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 3600:
            timeout = None
        if not isinstance(idempotent, bool) or timeout is None:
            fault(f"{path}.methods.{name}", 'must be {"idempotent": bool, "timeout_s": 0 < seconds <= 3600}')
            continue
        out[str(name)] = MethodPolicy(idempotent, float(timeout))
    return out
