"""From a fresh connection to transmission: fixed newstyle, and the options we ask for.

NBD_OPT_EXTENDED_HEADERS or else NBD_OPT_STRUCTURED_REPLY, then NBD_OPT_SET_META_CONTEXT, then NBD_OPT_GO. A server may
decline all but the last. The whole negotiation has one deadline and a bounded number of replies, so a server that talks
without end is left.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hypersdk.data.nbd import constants as c
from hypersdk.data.nbd import faults
from hypersdk.data.nbd.stream import Stream

_MAX_REPLY_BYTES = 8192
"""The longest reply with a meaning is an NBD_INFO_DESCRIPTION or an error of 4096 bytes."""
_MAX_REPLIES = 128
_EXPORT_INFO = struct.Struct(">QH")
_BLOCK_INFO = struct.Struct(">III")


@dataclass(frozen=True, slots=True)
class Export:
    """What was negotiated. Sizes in bytes.

    min_block        offsets and lengths are multiples of it (but for the disk's end)
    preferred_block  what the server likes best
    max_block        the longest read or write
    contexts         name → the id that replies carry
    structured, extended   which headers replies have
    """

    size: int
    flags: int
    min_block: int = c.DEFAULT_MIN_BLOCK
    preferred_block: int = c.DEFAULT_PREFERRED_BLOCK
    max_block: int = c.DEFAULT_MAX_BLOCK
    contexts: Mapping[str, int] = field(default_factory=dict)
    structured: bool = False
    extended: bool = False

    def has(self, flag: int) -> bool:
        """Is `flag` (of the transmission flags) set?"""
        return bool(self.flags & flag)


def negotiate(stream: Stream, export: str, contexts: Sequence[str] = ()) -> Export:
    """Ask for `export` with those of `contexts` that the server has. Raises the errors of `faults`."""
    return _Handshake(stream).run(export, contexts)


class _Handshake:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._deadline = time.monotonic() + stream.timeout_s
        self._replies = 0

    def run(self, export: str, contexts: Sequence[str]) -> Export:
        name = export.encode("utf-8", "surrogateescape")
        self._greet()
        extended = self._agreed(c.OPT_EXTENDED_HEADERS)
        structured = extended or self._agreed(c.OPT_STRUCTURED_REPLY)
        ids = self._set_contexts(name, contexts) if structured and contexts else {}
        size, flags, blocks = self._go(name, export)
        return Export(size, flags, *blocks, contexts=ids, structured=structured, extended=extended)

    def _greet(self) -> None:
        init, option, flags = c.HELLO.unpack(self._read(c.HELLO.size, "greeting"))
        if init != c.INIT_MAGIC:
            raise faults.violation("it does not greet as an NBD server")
        if option != c.OPTION_MAGIC or not flags & c.FLAG_FIXED_NEWSTYLE:
            raise faults.not_negotiated(c.REP_ERR_UNSUP, "", b"no fixed newstyle negotiation")
        self._stream.write([struct.pack(">I", flags & (c.FLAG_FIXED_NEWSTYLE | c.FLAG_NO_ZEROES))], "greeting")

    def _agreed(self, option: int) -> bool:
        """An option without data: does the server take it?"""
        for kind, data in self._ask(option, b""):
            if kind == c.REP_ACK and not data:
                return True
            if kind < c.REP_ERROR:
                raise faults.violation(f"reply {kind} of {len(data)} bytes to option {option}")
        return False

    def _set_contexts(self, name: bytes, contexts: Sequence[str]) -> dict[str, int]:
        queries = [query.encode() for query in contexts]
        body = struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries))
        body += b"".join(struct.pack(">I", len(query)) + query for query in queries)
        found: dict[str, int] = {}
        for kind, data in self._ask(c.OPT_SET_META_CONTEXT, body):
            if kind == c.REP_META_CONTEXT:
                if len(data) < 4:
                    raise faults.violation(f"a metadata context of {len(data)} bytes")
                number, context = int.from_bytes(data[:4], "big"), data[4:].decode("utf-8", "replace")
                if context not in contexts or context in found or number in found.values():
                    raise faults.violation(f"a metadata context {faults.shown(data[4:])!r} that was not asked for")
                found[context] = number
            elif kind >= c.REP_ERROR:
                return {}  # the export is then judged by NBD_OPT_GO
            elif kind != c.REP_ACK:
                raise faults.violation(f"reply {kind} to NBD_OPT_SET_META_CONTEXT")
        return found

    def _go(self, name: bytes, export: str) -> tuple[int, int, tuple[int, int, int]]:
        body = struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, c.INFO_BLOCK_SIZE)
        told: tuple[int, int] | None = None
        blocks = (c.DEFAULT_MIN_BLOCK, c.DEFAULT_PREFERRED_BLOCK, c.DEFAULT_MAX_BLOCK)
        for kind, data in self._ask(c.OPT_GO, body):
            if kind >= c.REP_ERROR:
                raise faults.not_negotiated(kind, export, data)
            if kind == c.REP_ACK:
                continue
            if kind != c.REP_INFO or len(data) < 2:
                raise faults.violation(f"reply {kind} of {len(data)} bytes to NBD_OPT_GO")
            what, rest = int.from_bytes(data[:2], "big"), data[2:]
            if what == c.INFO_EXPORT:
                if len(rest) != _EXPORT_INFO.size:
                    raise faults.violation(f"an NBD_INFO_EXPORT of {len(rest)} bytes")
                told = _EXPORT_INFO.unpack(rest)
            elif what == c.INFO_BLOCK_SIZE:
                if len(rest) != _BLOCK_INFO.size:
                    raise faults.violation(f"an NBD_INFO_BLOCK_SIZE of {len(rest)} bytes")
                blocks = _blocks(*_BLOCK_INFO.unpack(rest))
        if told is None:
            raise faults.violation("it agreed to NBD_OPT_GO without telling the export's size")
        if told[0] > c.MAX_SIZE:
            raise faults.violation(f"an export of {told[0]} bytes")
        return told[0], told[1], blocks

    def _ask(self, option: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """The replies to an option up to the one that ends it: an acknowledgement or an error, which is the last."""
        doing = f"negotiating option {option}"
        self._stream.write([c.OPTION.pack(c.OPTION_MAGIC, option, len(body)), body], doing)
        while True:
            self._replies += 1
            if self._replies > _MAX_REPLIES:
                raise faults.violation(f"more than {_MAX_REPLIES} replies in a negotiation")
            magic, about, kind, length = c.OPTION_REPLY.unpack(self._read(c.OPTION_REPLY.size, doing))
            if magic != c.OPTION_REPLY_MAGIC or about != option:
                raise faults.violation(f"a reply to option {about} with magic {magic:#x} to option {option}")
            if length > _MAX_REPLY_BYTES:
                raise faults.violation(f"an option reply of {length} bytes")
            yield kind, self._read(length, doing)
            if kind == c.REP_ACK or kind >= c.REP_ERROR:
                return

    def _read(self, count: int, doing: str) -> bytes:
        if time.monotonic() > self._deadline:
            raise faults.overdue(doing, self._stream.timeout_s)
        return self._stream.read(count, doing, self._deadline)


def _blocks(least: int, preferred: int, most: int) -> tuple[int, int, int]:
    """Judge a server's block sizes. A maximum that is no multiple of the minimum is rounded down; one of 2³²-1 means
    that there is none."""
    if not 0 < least <= c.MAX_MIN_BLOCK or least & (least - 1):
        raise faults.violation(f"a minimum block size of {least}")
    if preferred < least or preferred & (preferred - 1):
        raise faults.violation(f"a preferred block size of {preferred} with a minimum of {least}")
    if most < least:
        raise faults.violation(f"a maximum block size of {most} with a minimum of {least}")
    return least, preferred, most if most == c.UNLIMITED else most // least * least
