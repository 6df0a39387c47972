"""Compressed clusters: one cluster's bytes to a blob and back.

zlib means a raw deflate stream with a window of 12 bits (QEMU reads no larger one), done by ISA-L; zstd a
Zstandard frame. Both directions release the GIL, so that pipeline threads scale.

Where blobs lie in the file is not known here.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol, cast

import zstandard
from isal import igzip_lib

Bytes = bytes | bytearray | memoryview
WINDOW_BITS = 12

_LEVEL_DEFLATE = 3
"""ISA-L's level 3: 270-300 MB/s a core where zlib-6 has 28-45, for 4 to 7 % more bytes at this window; level 2 has
370-500 MB/s for 8 to 10 %."""
_LEVEL_ZSTD = 3
_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)  # the stub calls the class an instance


class CodecError(Exception):
    """The blob does not decode to one cluster. Turned into MalformedImage by whoever knows the offset."""


class Codec(Protocol):
    """Thread-safe."""

    def compress(self, cluster: Bytes) -> bytes:
        """The blob of one whole cluster; may be larger than it."""

    def decompress(self, blob: Bytes, cluster_size: int) -> bytes:
        """Exactly `cluster_size` bytes; trailing garbage after the stream is fine. Never allocates much more
        than a cluster, whatever the blob claims. Raises CodecError."""


class DeflateCodec:
    """Raw deflate, 12-bit window."""

    def compress(self, cluster: Bytes) -> bytes:
        return igzip_lib.compress(
            cluster, _LEVEL_DEFLATE, igzip_lib.COMP_DEFLATE, igzip_lib.MEM_LEVEL_EXTRA_LARGE, WINDOW_BITS
        )

    def decompress(self, blob: Bytes, cluster_size: int) -> bytes:
        try:
            stream = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE, WINDOW_BITS)
            data = stream.decompress(blob, cluster_size)
        except _ISAL_ERROR as exc:
            raise CodecError(f"not a deflate stream ({exc})") from exc
        return _whole(data, cluster_size)


class ZstdCodec:
    """Zstandard. Contexts are not thread-safe and dear to make, hence one of each per thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def compress(self, cluster: Bytes) -> bytes:
        context: Any = getattr(self._local, "compressor", None)
        if context is None:
            context = self._local.compressor = zstandard.ZstdCompressor(level=_LEVEL_ZSTD)
        return cast("bytes", context.compress(cluster))

    def decompress(self, blob: Bytes, cluster_size: int) -> bytes:
        context: Any = getattr(self._local, "decompressor", None)
        if context is None:
            context = self._local.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 23)
        try:
            claimed = zstandard.frame_content_size(blob)
            if claimed > cluster_size:  # one-shot decompression would allocate what the frame claims
                raise CodecError(f"the frame claims {claimed} bytes")
            if claimed == cluster_size:
                return _whole(cast("bytes", context.decompress(blob, max_output_size=cluster_size)), cluster_size)
            with context.stream_reader(blob, read_across_frames=True) as reader:
                return _whole(cast("bytes", reader.read(cluster_size)), cluster_size)
        except zstandard.ZstdError as exc:
            raise CodecError(f"not a Zstandard frame ({exc})") from exc


def _whole(data: bytes, cluster_size: int) -> bytes:
    if len(data) != cluster_size:
        raise CodecError(f"the stream ends after {len(data)} of {cluster_size} bytes")
    return data


CODECS: dict[str, type[DeflateCodec | ZstdCodec]] = {"zlib": DeflateCodec, "zstd": ZstdCodec}
