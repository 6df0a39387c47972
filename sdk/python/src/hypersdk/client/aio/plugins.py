"""client.plugins: what is installed, how its hosts fare, and swapping it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import grpc

from hypersdk.api.plugins.v1 import plugins_pb2, plugins_pb2_grpc
from hypersdk.client.aio.caller import AsyncCaller
from hypersdk.client.aio.pager import AsyncPager
from hypersdk.client.calls import tag
from hypersdk.signing import read_signature

CHUNK_BYTES = 1 << 20
SWAP_TIMEOUT_S = 120.0
"""A host may take 10 s to come up, and an installation with large dependencies longer."""


class AsyncPlugins:
    """Calls of PluginService. Names are `plugins/{plugin}`."""

    def __init__(self, channel: grpc.aio.Channel, caller: AsyncCaller) -> None:
        self._stub = plugins_pb2_grpc.PluginServiceStub(channel)
        self._caller = caller

    async def get(self, name: str) -> plugins_pb2.Plugin:
        """One plugin with its generations. Raises NotFound."""
        return await self._caller.unary(self._stub.GetPlugin, plugins_pb2.GetPluginRequest(name=name))

    def list(self, *, page_size: int = 0) -> AsyncPager[plugins_pb2.ListPluginsResponse, plugins_pb2.Plugin]:
        """All installed plugins."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.ListPlugins, plugins_pb2.ListPluginsRequest(page_size=page_size, page_token=token)
            ),
            lambda page: page.plugins,
        )

    async def check_health(
        self, name: str, *, timeout_s: float | None = 60.0
    ) -> plugins_pb2.CheckPluginHealthResponse:
        """Start the plugin's host if it is not running, and ask it."""
        request = plugins_pb2.CheckPluginHealthRequest(name=name)
        return await self._caller.unary(self._stub.CheckPluginHealth, request, timeout_s)

    async def install(
        self,
        wheel_path: str = "",
        *,
        requirement: str = "",
        install_only: bool = False,
        validate_only: bool = False,
        request_id: str = "",
        signature: str = "",
        timeout_s: float | None = SWAP_TIMEOUT_S,
    ) -> plugins_pb2.Plugin:
        """Take a wheel on the daemon's machine, or what meets `requirement` in its configured sources, into the store
        and, unless `install_only`, into use. `signature`: what the wheel's signature file holds, if it does not lie
        beside it."""
        request = plugins_pb2.InstallPluginRequest(
            install_only=install_only, validate_only=validate_only, request_id=request_id, signature=signature
        )
        if requirement:
            request.requirement = requirement
        else:
            request.wheel_path = wheel_path
        return await self._caller.unary(self._stub.InstallPlugin, request, timeout_s)

    async def upload(
        self,
        wheel: Path,
        *,
        install_only: bool = False,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float = SWAP_TIMEOUT_S,
    ) -> plugins_pb2.Plugin:
        """`install` of a wheel on this machine, with the signature file beside it if there is one. Raises OSError when
        it cannot be read."""
        spec = plugins_pb2.UploadPluginSpec(
            file_name=wheel.name, install_only=install_only, validate_only=validate_only,
            signature=read_signature(wheel).decode("utf-8", "replace"), request_id=request_id,
        )  # fmt: skip
        return await self._caller.upload(self._stub.UploadPlugin, _parts(wheel, spec), timeout_s, tag(spec))

    async def uninstall(self, name: str, *, validate_only: bool = False, request_id: str = "") -> None:
        """Remove `plugins/x` as far as it was installed, or one `plugins/x/generations/2`."""
        request = plugins_pb2.UninstallPluginRequest(name=name, validate_only=validate_only, request_id=request_id)
        await self._caller.unary(self._stub.UninstallPlugin, request, SWAP_TIMEOUT_S)

    async def activate(
        self,
        name: str,
        *,
        generation: int = 0,
        version: str = "",
        canary_percent: int = 0,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = SWAP_TIMEOUT_S,
    ) -> plugins_pb2.Plugin:
        """Swap to a generation, by its number or by version. When it returns, new calls go there; with
        `canary_percent` (1 to 99) that share of them."""
        request = plugins_pb2.ActivatePluginRequest(
            name=name, canary_percent=canary_percent, validate_only=validate_only, request_id=request_id
        )
        if version:
            request.version = version
        else:
            request.generation = generation
        return await self._caller.unary(self._stub.ActivatePlugin, request, timeout_s)

    async def rollback(
        self, name: str, *, validate_only: bool = False, request_id: str = "", timeout_s: float | None = SWAP_TIMEOUT_S
    ) -> plugins_pb2.Plugin:
        """Withdraw the canary; without one, swap to the generation that was active before."""
        request = plugins_pb2.RollbackPluginRequest(name=name, validate_only=validate_only, request_id=request_id)
        return await self._caller.unary(self._stub.RollbackPlugin, request, timeout_s)

    async def reload(
        self, name: str, *, validate_only: bool = False, request_id: str = "", timeout_s: float | None = SWAP_TIMEOUT_S
    ) -> plugins_pb2.Plugin:
        """Read a plugin of the daemon's own environment again; changed files are a new generation."""
        request = plugins_pb2.ReloadPluginRequest(name=name, validate_only=validate_only, request_id=request_id)
        return await self._caller.unary(self._stub.ReloadPlugin, request, timeout_s)

    async def reset(
        self, name: str, *, validate_only: bool = False, request_id: str = ""
    ) -> plugins_pb2.Plugin:
        """Forget the crashes of the plugin's hosts, so that a quarantined one is started by the next call."""
        request = plugins_pb2.ResetPluginRequest(name=name, validate_only=validate_only, request_id=request_id)
        return await self._caller.unary(self._stub.ResetPlugin, request)

    async def collect_garbage(self, *, validate_only: bool = False, request_id: str = "") -> Sequence[str]:
        """Remove what nobody needs any more; the names of the generations that are gone."""
        request = plugins_pb2.CollectGarbageRequest(validate_only=validate_only, request_id=request_id)
        return (await self._caller.unary(self._stub.CollectGarbage, request, SWAP_TIMEOUT_S)).removed

    async def watch(
        self, *, since_revision: int = 0, timeout_s: float | None = None
    ) -> AsyncGenerator[plugins_pb2.WatchPluginsResponse, None]:
        """From 0 the plugins as they are, then each change, without end; heartbeats are left out. Broken streams are
        resumed from the last revision."""

        def since(revision: int) -> plugins_pb2.WatchPluginsRequest:
            return plugins_pb2.WatchPluginsRequest(since_revision=revision)

        changes = self._caller.watch(
            self._stub.WatchPlugins, since, since_revision, relist=True, timeout_s=timeout_s
        )
        async with aclosing(changes):
            async for change in changes:
                if change.type or change.HasField("plugin"):
                    yield change


def _parts(wheel: Path, spec: plugins_pb2.UploadPluginSpec) -> Iterator[plugins_pb2.UploadPluginRequest]:
    yield plugins_pb2.UploadPluginRequest(upload=spec)
    with wheel.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield plugins_pb2.UploadPluginRequest(chunk=chunk)
