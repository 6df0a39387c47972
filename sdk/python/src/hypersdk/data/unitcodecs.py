"""Decoders of compressed units: a blob in, exactly the unit's bytes out, never more, whatever the stream says.

All release the GIL. Where blobs lie is not known here: a `DecodeError` is turned into MalformedImage by whoever knows.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from typing import cast

from isal import igzip_lib

Decoder = Callable[[bytes, int], bytes]
"""(blob, length) → exactly `length` bytes. Thread-safe. Raises DecodeError."""

_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)  # the stub calls the class an instance
_XZ_MEMORY = 96 << 20
"""Bytes a decoder may take; preset 9 takes 65 MiB."""


class DecodeError(Exception):
    """The blob does not decode to its unit."""


def inflate_raw(blob: bytes, length: int) -> bytes:
    """Deflate without a wrapper (RFC 1951), window of 12 bits, as QCOW has it."""
    return _inflate(blob, length, igzip_lib.DECOMP_DEFLATE, 12)


def inflate_zlib(blob: bytes, length: int) -> bytes:
    """Deflate in zlib's wrapper (RFC 1950), checksum verified."""
    return _inflate(blob, length, igzip_lib.DECOMP_ZLIB, 15)


def bunzip2(blob: bytes, length: int) -> bytes:
    """One bzip2 stream, checksum verified."""
    stream = bz2.BZ2Decompressor()
    try:
        data = stream.decompress(blob, length + 1)
        if len(data) == length and not stream.eof:
            data += stream.decompress(b"", 1)  # what remains of the input may be the end mark alone
    except (OSError, ValueError, EOFError) as exc:
        raise DecodeError(f"not a bzip2 stream ({exc})") from exc
    return _whole(data, length, ended=stream.eof)


def unxz(blob: bytes, length: int) -> bytes:
    """One xz stream, check verified."""
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    try:
        data = stream.decompress(blob, length + 1)
    except lzma.LZMAError as exc:
        raise DecodeError(f"not an xz stream ({exc})") from exc
    return _whole(data, length, ended=stream.eof)


def _inflate(blob: bytes, length: int, flag: int, window_bits: int) -> bytes:
    stream = igzip_lib.IgzipDecompressor(flag, window_bits)
    try:
        data = stream.decompress(blob, length + 1)
    except _ISAL_ERROR as exc:
        raise DecodeError(f"not a deflate stream ({exc})") from exc
    return _whole(data, length, ended=stream.eof)


def _whole(data: bytes, length: int, *, ended: bool) -> bytes:
    if len(data) < length:
        raise DecodeError(f"the stream gives {len(data)} of {length} bytes")
    if len(data) > length or not ended:
        raise DecodeError(f"the stream gives more than {length} bytes or does not end")
    return data
