"""PluginService."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from google.protobuf.empty_pb2 import Empty
from hypersdk.api.plugins.v1 import plugins_pb2 as pb
from hypersdk.errors import FailedPrecondition, FieldViolation, HyperError, InvalidArgument, ResourceExhausted

from hypersdk_kernel.hosting.lifecycle import Lifecycle
from hypersdk_kernel.hosting.removal import Removal
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.model.plugin import HostState, Plugin, ServiceStatus
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.pluginviews import (
    Hosts,
    Pinned,
    host_message,
    plugin_message,
    service_message,
)
from hypersdk_kernel.services.pluginwatch import PluginWatcher
from hypersdk_kernel.services.values import duration
from hypersdk_kernel.store.requests import RequestKey

MAX_UPLOAD_BYTES = 512 << 20
_UPLOAD = f"/{pb.DESCRIPTOR.services_by_name['PluginService'].full_name}/UploadPlugin"


class Registry(Protocol):
    """hosting.registry.Registry, as far as this service needs it."""

    def plugin(self, plugin_id: str) -> Plugin: ...

    def plugins(self) -> list[Plugin]: ...


@dataclass(frozen=True, slots=True)
class Operators:
    """What changes plugins. `staging`: a folder on the store's file system that is gone after its use. `pinned`: digest
    → jobs that hold it."""

    lifecycle: Lifecycle
    removal: Removal
    staging: Callable[[], AbstractContextManager[Path]]
    pinned: Pinned


class PluginService(Service):
    """Tells which plugins are installed and how their hosts fare; installs and swaps them."""

    descriptor = pb.DESCRIPTOR.services_by_name["PluginService"]

    def __init__(
        self,
        registry: Registry,
        hosts: Hosts,
        operators: Operators,
        watcher: PluginWatcher,
        services: Callable[[frozenset[str]], list[ServiceStatus]] = lambda _components: [],
    ) -> None:
        """`services`: how the processes of these service components fare."""
        self._services = services
        self._registry = registry
        self._hosts = hosts
        self._life = operators.lifecycle
        self._removal = operators.removal
        self._staging = operators.staging
        self._pinned = operators.pinned
        self._watcher = watcher

    async def get_plugin(self, request: pb.GetPluginRequest, _call: Call) -> pb.Plugin:
        return await self._message(self._registry.plugin(id_of(request.name, "plugins")))

    async def list_plugins(self, request: pb.ListPluginsRequest, _call: Call) -> pb.ListPluginsResponse:
        size = pages.page_size(request.page_size)
        key = pages.key_of(request.page_token, (str,), "plugins")
        after = key[0] if key else ""
        rows = [p for p in sorted(self._registry.plugins(), key=lambda p: p.id) if p.id > after]
        page, token = pages.cut(rows, size, lambda plugin: pages.token((plugin.id,), "plugins"))
        pinned = await self._pinned()
        messages = [plugin_message(p, self._hosts, pinned) for p in page]
        return pb.ListPluginsResponse(plugins=messages, next_page_token=token)

    async def install_plugin(self, request: pb.InstallPluginRequest, call: Call) -> pb.Plugin:
        if request.WhichOneof("source") is None:
            raise _required("wheel_path", "give wheel_path or requirement")
        source: Path | str = Path(request.wheel_path) if request.wheel_path else request.requirement
        plugin = await self._life.install(
            source,
            actor=call.actor,
            activate=not request.install_only,
            validate_only=request.validate_only,
            key=call.key,
            signature=request.signature.encode(),
        )
        return await self._message(plugin)

    async def upload_plugin(self, messages: AsyncIterator[pb.UploadPluginRequest], call: Call) -> pb.Plugin:
        first = await anext(messages)
        if not first.HasField("upload"):
            raise _required("upload", "the first message must have it")
        spec = first.upload
        with self._staging() as folder:
            wheel = folder / spec.file_name
            digest = await self._receive(messages, wheel)
            plugin = await self._life.install(
                wheel, actor=call.actor, activate=not spec.install_only, validate_only=spec.validate_only,
                key=_upload_key(spec, digest), signature=spec.signature.encode(), via="upload",
            )  # fmt: skip
        return await self._message(plugin)

    async def uninstall_plugin(self, request: pb.UninstallPluginRequest, call: Call) -> Empty:
        plugin, _, number = request.name.partition("/generations/")
        await self._removal.uninstall(
            id_of(plugin, "plugins"),
            int(number) if number else None,
            actor=call.actor,
            validate_only=request.validate_only,
            key=call.key,
        )
        return Empty()

    async def activate_plugin(self, request: pb.ActivatePluginRequest, call: Call) -> pb.Plugin:
        plugin_id = id_of(request.name, "plugins")
        target = request.WhichOneof("target")
        if target is None:
            raise _required("generation", "give a generation's number or a version")
        number = request.generation
        if target == "version":
            number = self._life.generation_of(plugin_id, request.version).number
        plugin = await self._life.activate(
            plugin_id,
            number,
            actor=call.actor,
            canary_percent=request.canary_percent,
            validate_only=request.validate_only,
            key=call.key,
        )
        return await self._message(plugin)

    async def rollback_plugin(self, request: pb.RollbackPluginRequest, call: Call) -> pb.Plugin:
        plugin_id = id_of(request.name, "plugins")
        return await self._message(
            await self._life.roll_back(
                plugin_id, actor=call.actor, validate_only=request.validate_only, key=call.key
            )
        )

    async def reload_plugin(self, request: pb.ReloadPluginRequest, call: Call) -> pb.Plugin:
        plugin_id = id_of(request.name, "plugins")
        return await self._message(
            await self._life.reload(plugin_id, actor=call.actor, validate_only=request.validate_only, key=call.key)
        )

    async def reset_plugin(self, request: pb.ResetPluginRequest, call: Call) -> pb.Plugin:
        plugin_id = id_of(request.name, "plugins")
        return await self._message(
            await self._life.reset(plugin_id, actor=call.actor, validate_only=request.validate_only, key=call.key)
        )

    async def collect_garbage(self, request: pb.CollectGarbageRequest, call: Call) -> pb.CollectGarbageResponse:
        gone = await self._removal.collect_garbage(
            actor=call.actor, validate_only=request.validate_only, key=call.key
        )
        return pb.CollectGarbageResponse(removed=gone)

    def watch_plugins(
        self, request: pb.WatchPluginsRequest, _call: Call
    ) -> AsyncIterator[pb.WatchPluginsResponse]:
        return self._watcher.stream(request)

    async def check_plugin_health(
        self, request: pb.CheckPluginHealthRequest, _call: Call
    ) -> pb.CheckPluginHealthResponse:
        plugin = self._registry.plugin(id_of(request.name, "plugins"))
        if plugin.active is None:
            raise FailedPrecondition(
                f"no generation of {plugin.name} could be activated; `hyperctl plugin get {plugin.id}` says why",
                reason="PLUGIN_INACTIVE",
                metadata={"name": plugin.name},
            )
        out = pb.CheckPluginHealthResponse()
        try:
            out.latency.CopyFrom(duration(await self._hosts.ping(plugin.active)))
            out.ok = True
        except HyperError as exc:
            out.message = exc.message
        out.host.CopyFrom(host_message(self._hosts.status(plugin.active)))
        for status in self._services(frozenset(plugin.active.entries)):
            out.services.append(service_message(status))
            if status.state not in {HostState.SERVING, HostState.STARTING}:
                out.ok = False
                out.message = out.message or f"{status.connection} does not run: {status.last_error}"
        return out

    async def _message(self, plugin: Plugin) -> pb.Plugin:
        return plugin_message(plugin, self._hosts, await self._pinned())

    @staticmethod
    async def _receive(messages: AsyncIterator[pb.UploadPluginRequest], wheel: Path) -> bytes:
        """The SHA-256 of what came."""
        size, digest = 0, hashlib.sha256()
        with wheel.open("wb") as file:
            async for message in messages:
                if message.HasField("upload"):
                    raise _required("chunk", "only the first message may have `upload`")
                size += len(message.chunk)
                if size > MAX_UPLOAD_BYTES:
                    raise ResourceExhausted(
                        f"the wheel has more than {MAX_UPLOAD_BYTES} bytes; copy it to the daemon's machine and give "
                        "its path",
                        reason="UPLOAD_TOO_LARGE",
                        retryable=False,
                    )
                await asyncio.to_thread(file.write, message.chunk)
                await asyncio.to_thread(digest.update, message.chunk)
        return digest.digest()


def _upload_key(spec: pb.UploadPluginSpec, digest: bytes) -> RequestKey | None:
    """A stream's request is its first message and the file, so it is the same one only when both are."""
    if not spec.request_id:
        return None
    whole = hashlib.sha256(spec.SerializeToString(deterministic=True) + digest).digest()
    return RequestKey(spec.request_id.lower(), _UPLOAD, whole)


def _required(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {rule}", reason="FIELD_INVALID", violations=(FieldViolation(field, rule),))
