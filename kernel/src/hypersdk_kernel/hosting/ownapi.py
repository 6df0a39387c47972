"""A component's own gRPC service: its descriptor set, read, judged and kept apart from ours.

Every set gets a descriptor pool of its own, so two builds of a plugin, whose messages have the same names, live side by
side. Files that we have too (google/protobuf, google/api, buf/validate) are taken from ours, whatever the plugin ships.

Not here: calling it (router), serving it (server.ownservices).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from google.api import routing_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from hypersdk.errors import FailedPrecondition
from hypersdk.plugin.manifest import MAX_DESCRIPTOR_BYTES, ComponentManifest, OwnApi

from hypersdk_kernel.hosting.routes import Route, Target

MAX_FILES = 200
RESERVED = ("hypersdk", "google", "grpc", "buf")
"""Top-level packages that no plugin defines."""
SHARED = ("google/protobuf/", "google/api/", "google/rpc/", "google/type/", "buf/validate/")
_SHARED_FILE = re.compile(r"((?:google|buf)/[a-z]+/[a-z0-9_]{1,60})\.proto")
_CONNECTION = re.compile(r"\{\w+=connections/\*\}(/\*\*)?")


@dataclass(frozen=True, slots=True)
class OwnServices:
    """The services of one build of a component. `methods`: gRPC path → the method and its route."""

    pool: DescriptorPool
    services: tuple[str, ...]
    methods: dict[str, tuple[MethodDescriptor, Route]] = field(repr=False)


def judge(component: ComponentManifest, data: bytes) -> OwnApi:
    """What a descriptor set declares, for the manifest. Raises FailedPrecondition (DESCRIPTOR_SET_INVALID)."""
    own, files = _read(component.name, data)
    names = {f"file:{file.name}" for file in files} | {f"package:{file.package}" for file in files}
    methods = tuple(sorted(path[1:].replace("/", ".") for path in own.methods))
    return OwnApi(data, frozenset(names), methods)


@lru_cache(maxsize=64)
def services_of(component: str, data: bytes) -> OwnServices:
    """The services of a set that `judge` has passed."""
    return _read(component, data)[0]


def _read(component: str, data: bytes) -> tuple[OwnServices, list[FileDescriptor]]:
    if len(data) > MAX_DESCRIPTOR_BYTES:
        raise _invalid(component, f"is larger than {MAX_DESCRIPTOR_BYTES} bytes")
    try:
        parsed = descriptor_pb2.FileDescriptorSet.FromString(data)
    except DecodeError as exc:
        raise _invalid(component, "is no FileDescriptorSet") from exc
    if not 0 < len(parsed.file) <= MAX_FILES:
        raise _invalid(component, f"must have 1 to {MAX_FILES} files")
    texts = (text for file in parsed.file for text in (file.name, file.package, *file.dependency))
    if not all(isinstance(text, str) for text in texts):  # what is not UTF-8 comes as bytes
        raise _invalid(component, "has names that are not UTF-8")
    pool, own = _pool(component, parsed.file)
    services = [service for file in own for service in file.services_by_name.values()]
    if not services:
        raise _invalid(component, "defines no service")
    methods = {}
    for method in (method for service in services for method in service.methods):
        route = _route(component, method)
        methods[route.path] = (method, route)
    names = tuple(sorted(service.full_name for service in services))
    return OwnServices(pool, names, methods), own


def _pool(component: str, files: Iterable[Any]) -> tuple[DescriptorPool, list[FileDescriptor]]:
    """The pool of a set, and the files in it that are the plugin's own."""
    pool = DescriptorPool()
    by_name = {file.name: file for file in files}
    added: set[str] = set()
    own: list[str] = []
    for name in _in_order(component, by_name):
        shared = name.startswith(SHARED)
        top = by_name[name].package.partition(".")[0] if name in by_name else ""
        if not shared and (not top or top in RESERVED):
            raise _invalid(component, f"{name[:120]!r} must be in a package of the plugin's own")
        try:
            if shared:
                pool.AddSerializedFile(_ours(component, name))
            else:
                pool.AddSerializedFile(by_name[name].SerializeToString())
                own.append(name)
        except (TypeError, ValueError, KeyError) as exc:
            raise _invalid(component, f"{name[:120]!r} cannot be understood: {str(exc)[:300]}") from exc
        added.add(name)
    try:
        return pool, [pool.FindFileByName(name) for name in own]
    except KeyError as exc:
        raise _invalid(component, f"is inconsistent: {str(exc)[:300]}") from exc


def _in_order(component: str, by_name: dict[str, Any]) -> Iterator[str]:
    """Names, those that a file imports before it. Iterative: a hostile set may nest deeply."""
    done: set[str] = set()
    path: list[tuple[str, Iterator[str]]] = []
    for start in by_name:
        pending = start
        while True:
            if pending and pending not in done:
                if any(pending == name for name, _ in path):
                    raise _invalid(component, f"{pending[:120]!r} imports itself")
                if len(path) > MAX_FILES:
                    raise _invalid(component, "nests too deeply")
                path.append((pending, iter(_imports(component, pending, by_name))))
            if not path:
                break
            name, rest = path[-1]
            pending = next(rest, "")
            if not pending:
                path.pop()
                done.add(name)
                yield name


def _imports(component: str, name: str, by_name: dict[str, Any]) -> list[str]:
    if name.startswith(SHARED):
        file = descriptor_pb2.FileDescriptorProto.FromString(_ours(component, name))
        return list(file.dependency)
    if name not in by_name:
        raise _invalid(component, f"lacks {name[:120]!r}; make it with --include_imports")
    return list(by_name[name].dependency)


def _ours(component: str, name: str) -> bytes:
    found = _SHARED_FILE.fullmatch(name)
    try:
        if found is None:
            raise KeyError(name)
        if name.startswith("google/"):  # loaded when it is first needed
            importlib.import_module(found[1].replace("/", ".") + "_pb2")
        return descriptor_pool.Default().FindFileByName(name).serialized_pb
    except (KeyError, ImportError):
        raise _invalid(component, f"imports {name[:120]!r}, which the kernel does not have") from None


def _route(component: str, method: MethodDescriptor) -> Route:
    if method.client_streaming or method.server_streaming:
        raise _invalid(component, f"{method.full_name} streams; only unary methods can be called through the kernel")
    parameters = method.GetOptions().Extensions[routing_pb2.routing].routing_parameters
    target, name_field, deeper = Target.ITSELF, "", False
    if parameters:
        name_field = parameters[0].field
        match = _CONNECTION.fullmatch(parameters[0].path_template)
        found = method.input_type.fields_by_name.get(name_field)
        if len(parameters) != 1 or match is None or found is None or found.type != found.TYPE_STRING:
            raise _invalid(
                component,
                f"{method.full_name}: google.api.routing must be one text field with {{connection=connections/*}}, "
                "perhaps with /** behind",
            )
        target, deeper = Target.CONNECTION, match[1] is not None
    kind = component.partition("/")[0]
    return Route(
        service=method.containing_service.full_name,
        method=method.name,
        kind=kind,
        components=f"{kind}s",
        target=target,
        request_class=GetMessageClass(method.input_type),
        response_class=GetMessageClass(method.output_type),
        name_field=name_field,
        deeper=deeper,
        component=component,
    )


def _invalid(component: str, text: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the descriptor set of {component} {text}", reason="DESCRIPTOR_SET_INVALID", metadata={"component": component}
    )
