# Generated from aio/plugins.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.plugins: what is installed, and how its hosts fare."""

from __future__ import annotations

import grpc

from hypersdk.api.plugins.v1 import plugins_pb2, plugins_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Plugins:
    """Calls of PluginService. Names are `plugins/{plugin}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = plugins_pb2_grpc.PluginServiceStub(channel)
        self._caller = caller

    def get(self, name: str) -> plugins_pb2.Plugin:
        """One plugin with its generations. Raises NotFound."""
        return self._caller.unary(self._stub.GetPlugin, plugins_pb2.GetPluginRequest(name=name))

    def list(self, *, page_size: int = 0) -> Pager[plugins_pb2.ListPluginsResponse, plugins_pb2.Plugin]:
        """All installed plugins."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListPlugins, plugins_pb2.ListPluginsRequest(page_size=page_size, page_token=token)
            ),
            lambda page: page.plugins,
        )

    def check_health(
        self, name: str, *, timeout_s: float | None = 60.0
    ) -> plugins_pb2.CheckPluginHealthResponse:
        """Start the plugin's host if it is not running, and ask it."""
        request = plugins_pb2.CheckPluginHealthRequest(name=name)
        return self._caller.unary(self._stub.CheckPluginHealth, request, timeout_s)
