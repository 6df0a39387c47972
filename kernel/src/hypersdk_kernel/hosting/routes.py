"""Routes: the domain services as data, read from the annotations of their protos.

A service with the option `hypersdk.api.routing.v1.kind` is implemented by plugins of that kind. `google.api.routing`
of each method names the field that says which plugin: `{connection=connections/*}` or `{<kind>=<kind>s/*}`, perhaps
with `/**` behind. The option `collection` names another word than `<kind>s`.

Not here: calling anything (router).
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from google.api import routing_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypersdk.api.routing.v1 import routing_pb2 as hypersdk_routing_pb2
from hypersdk.errors import FieldViolation, Internal, InvalidArgument

API_PACKAGE = "hypersdk.api"
MAX_NAME_CHARACTERS = 2048
_TEMPLATE = re.compile(r"\{\w+=([a-z][A-Za-z]*)/\*\}(/\*\*)?")


class Target(enum.Enum):
    """Who answers a method."""

    CONNECTION = "connection"  # the component of the connection that the request names
    COMPONENT = "component"  # the component that the request names
    ITSELF = "itself"  # the component whose own service it is
    ALL = "all"  # every component of the kind; the answers are merged


@dataclass(frozen=True, slots=True)
class Route:
    """One method of a domain service.

    components   the collection in names of components of the kind: `formats`
    name_field   field of the request that names the resource; empty for Target.ALL
    deeper       the name may go on behind the part that routes
    component    of a component's own service: its name
    items_field  repeated field of the response that a fan-out merges; empty when it cannot be fanned out
    """

    service: str
    method: str
    kind: str
    components: str
    target: Target
    request_class: type[Message] = field(repr=False)
    response_class: type[Message] = field(repr=False)
    name_field: str = ""
    deeper: bool = False
    items_field: str = ""
    component: str = ""

    @property
    def path(self) -> str:
        """As gRPC calls it: `/package.Service/Method`."""
        return f"/{self.service}/{self.method}"

    @property
    def collection(self) -> str:
        return "connections" if self.target is Target.CONNECTION else self.components

    def id_in(self, request: Message) -> str:
        """The id of the connection or component that a request names; `-` is the wildcard. Raises InvalidArgument
        (NAME_INVALID)."""
        name = getattr(request, self.name_field)
        parts = name.split("/", 2) if len(name) <= MAX_NAME_CHARACTERS else []
        if len(parts) < 2 or parts[0] != self.collection or not parts[1] or (len(parts) > 2 and not self.deeper):
            rule = f"must be {self.collection}/{{id}}{'/…' if self.deeper else ''}"
            raise InvalidArgument(
                f"{self.name_field}: {name[:80]!r} {rule}",
                reason="NAME_INVALID",
                violations=(FieldViolation(self.name_field, rule),),
            )
        return str(parts[1])


def api_routes() -> list[Route]:
    """The routes of every service below hypersdk.api, in order of path."""
    package = importlib.import_module(API_PACKAGE)
    modules = (
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(package.__path__, f"{API_PACKAGE}.")
        if info.name.endswith("_pb2")
    )
    return routes_of(module.DESCRIPTOR for module in modules)


def routes_of(files: Iterable[FileDescriptor]) -> list[Route]:
    """The routes of the services that some proto files define. Raises Internal (ROUTING_ANNOTATION_INVALID)."""
    routes: list[Route] = []
    for file in files:
        for service in file.services_by_name.values():
            options = service.GetOptions()
            kind = options.Extensions[hypersdk_routing_pb2.kind]
            if kind:
                components = options.Extensions[hypersdk_routing_pb2.collection] or f"{kind}s"
                routes.extend(_route(method, kind, components) for method in service.methods)
    return sorted(routes, key=lambda r: r.path)


def _route(method: MethodDescriptor, kind: str, components: str) -> Route:
    name_field, deeper, target = "", False, Target.ALL
    parameters = method.GetOptions().Extensions[routing_pb2.routing].routing_parameters
    if parameters:
        name_field = parameters[0].field
        match = _TEMPLATE.fullmatch(parameters[0].path_template)
        targets = {"connections": Target.CONNECTION, components: Target.COMPONENT}
        known = name_field in method.input_type.fields_by_name
        if len(parameters) != 1 or match is None or match[1] not in targets or not known:
            raise Internal(
                f"{method.full_name}: google.api.routing must be one field with {{connection=connections/*}} or "
                f"{{{kind}={components}/*}}, or either with /** behind",
                reason="ROUTING_ANNOTATION_INVALID",
            )
        target, deeper = targets[match[1]], match[2] is not None
    items_field = _items_field(method)
    if target is Target.ALL and not items_field:
        raise Internal(
            f"{method.full_name}: a method that names no resource must answer with a list (AIP-158) and `unreachable`",
            reason="ROUTING_ANNOTATION_INVALID",
        )
    return Route(
        service=method.containing_service.full_name,
        method=method.name,
        kind=kind,
        components=components,
        target=target,
        request_class=GetMessageClass(method.input_type),
        response_class=GetMessageClass(method.output_type),
        name_field=name_field,
        deeper=deeper,
        items_field=items_field,
    )


def _items_field(method: MethodDescriptor) -> str:
    """The list of an answer that can be merged: one repeated message beside `next_page_token` and `unreachable`."""
    response, request = method.output_type.fields_by_name, method.input_type.fields_by_name
    if not ({"next_page_token", "unreachable"} <= set(response) and {"page_size", "page_token"} <= set(request)):
        return ""
    lists = [f.name for f in response.values() if f.is_repeated and f.message_type is not None]
    return lists[0] if len(lists) == 1 else ""
