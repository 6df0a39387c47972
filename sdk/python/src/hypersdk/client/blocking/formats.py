# Generated from aio/formats.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.formats: the image formats that the daemon can read and write."""

from __future__ import annotations

import grpc

from hypersdk.api.formats.v1 import formats_pb2, formats_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Formats:
    """Calls of FormatService, answered by format plugins. Names are `formats/{format}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = formats_pb2_grpc.FormatServiceStub(channel)
        self._caller = caller

    def get(self, name: str) -> formats_pb2.Format:
        """One format. Raises NotFound."""
        return self._caller.unary(self._stub.GetFormat, formats_pb2.GetFormatRequest(name=name))

    def list(self, *, page_size: int = 0) -> Pager[formats_pb2.ListFormatsResponse, formats_pb2.Format]:
        """All installed formats; the pager's `unreachable` names plugins that did not answer."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListFormats, formats_pb2.ListFormatsRequest(page_size=page_size, page_token=token)
            ),
            lambda page: page.formats,
        )

    def inspect(self, name: str, path: str) -> formats_pb2.InspectImageResponse:
        """Metadata of the image at `path`, absolute, on the daemon's machine, opened as format `name`."""
        request = formats_pb2.InspectImageRequest(name=name, path=path)
        return self._caller.unary(self._stub.InspectImage, request)
