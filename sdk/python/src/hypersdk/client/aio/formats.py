"""client.formats: the image formats that the daemon can read and write."""

from __future__ import annotations

import grpc

from hypersdk.api.formats.v1 import formats_pb2, formats_pb2_grpc
from hypersdk.client.aio.caller import AsyncCaller
from hypersdk.client.aio.pager import AsyncPager


class AsyncFormats:
    """Calls of FormatService, answered by format plugins. Names are `formats/{format}`."""

    def __init__(self, channel: grpc.aio.Channel, caller: AsyncCaller) -> None:
        self._stub = formats_pb2_grpc.FormatServiceStub(channel)
        self._caller = caller

    async def get(self, name: str) -> formats_pb2.Format:
        """One format. Raises NotFound."""
        return await self._caller.unary(self._stub.GetFormat, formats_pb2.GetFormatRequest(name=name))

    def list(self, *, page_size: int = 0) -> AsyncPager[formats_pb2.ListFormatsResponse, formats_pb2.Format]:
        """All installed formats; the pager's `unreachable` names plugins that did not answer."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.ListFormats, formats_pb2.ListFormatsRequest(page_size=page_size, page_token=token)
            ),
            lambda page: page.formats,
        )

    async def inspect(self, name: str, path: str) -> formats_pb2.InspectImageResponse:
        """Metadata of the image at `path`, absolute, on the daemon's machine, opened as format `name`."""
        request = formats_pb2.InspectImageRequest(name=name, path=path)
        return await self._caller.unary(self._stub.InspectImage, request)
