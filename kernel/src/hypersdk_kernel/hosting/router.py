"""The router: a domain service's call to the host of the plugin that answers it, without knowing the domain.

Proto messages become JSON with the proto's field names, the answer becomes a proto message again, and must be one.

Not here: who may call (server), how the call reaches the process (supervisor), what a connection is (engine).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from hypersdk.errors import FailedPrecondition, FieldViolation, Internal, InvalidArgument

from hypersdk_kernel.hosting import fanout, pagetoken
from hypersdk_kernel.hosting.fanout import SourcePage
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.routes import Route, Target, api_routes
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.names import check_id
from hypersdk_kernel.model.plugin import ActiveComponent, GenerationState

WILDCARD = "-"
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


class Router:
    """Calls the methods of domain services.

    resolve      `connections/x` → its configuration with secrets; raises NotFound
    connections  kind → names of the connections whose component is of that kind
    """

    def __init__(
        self,
        registry: Registry,
        hosts: HostPool,
        resolve: Callable[[str], Awaitable[ResolvedConnection]],
        connections: Callable[[str], Awaitable[list[str]]],
    ) -> None:
        self._registry = registry
        self._hosts = hosts
        self._resolve = resolve
        self._connections = connections

    def routes(self) -> list[Route]:
        """Every method that plugins implement."""
        return api_routes()

    async def call(self, route: Route, request: Message, timeout_s: float) -> Message:
        """The answer to `request`, an instance of `route.response_class`. Raises what the plugin raised and what
        HostPool.call does; InvalidArgument (NAME_INVALID, WILDCARD_UNSUPPORTED, PAGE_TOKEN_INVALID); NotFound
        (COMPONENT_UNKNOWN, and what `resolve` raises); FailedPrecondition (CONNECTION_KIND_MISMATCH); Internal
        (PLUGIN_RESULT_INVALID)."""
        if route.target is Target.ALL:
            return await self._all_components(route, request, timeout_s)
        resource_id = route.id_in(request)
        if resource_id == WILDCARD:
            if not route.items_field:
                rule = f"must name one resource: {route.method} does not take the wildcard '-'"
                raise InvalidArgument(
                    f"{route.name_field} {rule}",
                    reason="WILDCARD_UNSUPPORTED",
                    violations=(FieldViolation(route.name_field, rule),),
                )
            if route.target is Target.COMPONENT:
                return await self._all_components(route, request, timeout_s)
            sources = await self._connections(route.kind)
            return await self._list(route, request, sources, self._ask_connections(route, request), timeout_s)
        data = json_format.MessageToDict(request, preserving_proto_field_name=True)
        if "page_size" in route.request_class.DESCRIPTOR.fields_by_name:
            data["page_size"] = _page_size(request)
        number = None
        if data.get("page_token"):
            number, data["page_token"] = pagetoken.unmark(data["page_token"])
        if route.target is Target.COMPONENT:
            component = self._registry.turn(f"{route.kind}/{resource_id}", number)
            data[route.name_field] = _renamed(data[route.name_field], component)
            return await self._one(route, component, None, data, timeout_s)
        connection, component = await self._connection(route, f"{route.collection}/{resource_id}", number)
        return await self._one(route, component, connection, data, timeout_s)

    async def call_own(self, route: Route, component: ActiveComponent, request: Message, timeout_s: float) -> Message:
        """A method of `component`'s own service, answered by this build of it. Raises as `call`."""
        data = json_format.MessageToDict(request, preserving_proto_field_name=True)
        if route.target is Target.ITSELF:
            return await self._one(route, component, None, data, timeout_s)
        name = f"{route.collection}/{route.id_in(request)}"
        check_id(name.partition("/")[2], route.name_field)
        connection = await self._resolve(name)
        if connection.component != component.name:
            raise FailedPrecondition(
                f"{name} is a connection of {connection.component}; {route.method} needs one of {component.name}",
                reason="CONNECTION_KIND_MISMATCH",
                metadata={"connection": name, "component": connection.component},
            )
        return await self._one(route, component, connection, data, timeout_s)

    async def _all_components(self, route: Route, request: Message, timeout_s: float) -> Message:
        names = {f"{route.collection}/{c.manifest.id}": c.name for c in self._registry.components(route.kind)}
        return await self._list(route, request, list(names), self._ask_components(route, request, names), timeout_s)

    async def _connection(
        self, route: Route, name: str, number: int | None
    ) -> tuple[ResolvedConnection, ActiveComponent]:
        check_id(name.partition("/")[2], route.name_field)
        connection = await self._resolve(name)
        component = self._registry.turn(connection.component, number)
        if component.manifest.kind != route.kind:
            raise FailedPrecondition(
                f"{name} is a {component.manifest.kind} ({component.name}); {route.method} needs a {route.kind}",
                reason="CONNECTION_KIND_MISMATCH",
                metadata={"connection": name, "component": component.name},
            )
        return connection, component

    async def _one(
        self,
        route: Route,
        component: ActiveComponent,
        connection: ResolvedConnection | None,
        data: dict[str, Any],
        timeout_s: float,
    ) -> Message:
        def accept(answering: ActiveComponent, result: dict[str, Any]) -> Message:
            message: Any = _message(route, answering, result)
            if getattr(message, "next_page_token", ""):
                message.next_page_token = pagetoken.mark(_canary_number(answering), message.next_page_token)
            return message  # type: ignore[no-any-return]  # `next_page_token` is none of Message

        return await self._hosts.ask(component, route.service, route.method, data, connection, timeout_s, accept)

    async def _page(
        self,
        route: Route,
        component: ActiveComponent,
        connection: ResolvedConnection | None,
        data: dict[str, Any],
        timeout_s: float,
    ) -> SourcePage:
        """One source's page of a merged list."""
        answered: list[ActiveComponent] = []

        def accept(answering: ActiveComponent, result: dict[str, Any]) -> Any:
            answered.append(answering)
            return _message(route, answering, result)

        response = await self._hosts.ask(
            component, route.service, route.method, data, connection, timeout_s, accept
        )
        number, token = _canary_number(answered[-1]), response.next_page_token
        return SourcePage(
            list(getattr(response, route.items_field)),
            pagetoken.mark(number, token) if token else "",
            pagetoken.mark(number, data["page_token"]),
        )

    async def _list(
        self, route: Route, request: Message, sources: list[str], ask: fanout.Ask, timeout_s: float
    ) -> Message:
        text = getattr(request, "page_token", "")
        scope = _scope(route, request)
        cursor = pagetoken.decode(text, scope) if text else None
        page = await fanout.merge(sources, cursor, _page_size(request), timeout_s, ask)
        response = route.response_class()
        getattr(response, route.items_field).extend(page.items)
        response.unreachable.extend(page.unreachable)  # type: ignore[attr-defined]  # routes.py has checked it
        if page.next is not None:
            response.next_page_token = pagetoken.encode(page.next, scope)  # type: ignore[attr-defined]  # as above
        return response

    def _ask_connections(self, route: Route, request: Message) -> fanout.Ask:
        base = json_format.MessageToDict(request, preserving_proto_field_name=True)

        async def ask(source: str, token: str, page_size: int, timeout_s: float) -> SourcePage:
            number, theirs = pagetoken.unmark(token)
            connection, component = await self._connection(route, source, number)
            data = base | {route.name_field: source, "page_size": page_size, "page_token": theirs}
            return await self._page(route, component, connection, data, timeout_s)

        return ask

    def _ask_components(
        self, route: Route, request: Message, names: dict[str, str]
    ) -> fanout.Ask:
        base = json_format.MessageToDict(request, preserving_proto_field_name=True)

        async def ask(source: str, token: str, page_size: int, timeout_s: float) -> SourcePage:
            named = {route.name_field: source} if route.name_field else {}
            number, theirs = pagetoken.unmark(token)
            data = base | named | {"page_size": page_size, "page_token": theirs}
            component = self._registry.turn(names[source], number)  # now, for a list outlives a swap
            return await self._page(route, component, None, data, timeout_s)

        return ask


def _message(route: Route, component: ActiveComponent, result: dict[str, Any]) -> Message:
    """The answer of `component` as the message it must be."""
    try:
        return json_format.ParseDict(result, route.response_class())
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise Internal(
            f"{component.name} answered {route.method} with what is no {route.response_class.DESCRIPTOR.name}: "
            f"{str(exc)[:500]}",
            reason="PLUGIN_RESULT_INVALID",
            metadata={"component": component.name, "generation": component.generation.name},
        ) from exc


def _canary_number(component: ActiveComponent) -> int:
    """The generation that must go on with a list; 0: whichever is active then."""
    generation = component.generation
    return generation.number if generation.state is GenerationState.CANARY else 0


def _page_size(request: Any) -> int:
    return min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _renamed(name: str, component: ActiveComponent) -> str:
    """`formats/img/…` with the component's own id in place of an alias."""
    collection, _, *rest = name.split("/", 2)
    return "/".join([collection, component.manifest.id, *rest])


def _scope(route: Route, request: Message) -> str:
    """The method and everything of the request but its page fields, in which a page token is good."""
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("page_token")
    rest.ClearField("page_size")
    return f"{route.path} {hashlib.sha256(rest.SerializeToString(deterministic=True)).hexdigest()}"
