"""An NBD server in a thread, written from proto.md for the tests: well-behaved by default, and made to lie by
overriding one method. And one that plays back bytes, whatever it is asked."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path

from hypersdk.data.nbd import NbdAddress
from hypersdk.data.nbd import constants as c

Status = list[tuple[int, int]]


class _Listener:
    def __init__(self, folder: Path) -> None:
        self.address = NbdAddress(path=str(folder / "nbd"), export="disk")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address.path)
        self._listener.listen(8)
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections.append(sock)
                threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.serve(sock)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def serve(self, sock: socket.socket) -> None:
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_exc) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        Path(self.address.path).unlink()
        for sock in self.connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class PlaybackServer(_Listener):
    """Sends `data` at once, takes whatever comes, and closes when the client does, or right away with `hang_up`."""

    def __init__(self, folder: Path, data: bytes, *, hang_up: bool = True) -> None:
        self.data = data
        self.hang_up = hang_up
        super().__init__(folder)

    def serve(self, sock: socket.socket) -> None:
        sock.sendall(self.data)
        if self.hang_up:
            sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


class NbdServer(_Listener):
    """Serves `content`. `statuses`: context → its map from 0 on. `sent` records what the first connection was sent."""

    def __init__(
        self, folder: Path, content: bytearray, *, headers: str = "structured", flags: int = 0,
        blocks: tuple[int, int, int] | None = (1, 4096, 32 << 20), statuses: dict[str, Status] | None = None,
    ) -> None:  # fmt: skip
        self.content = content
        self.headers = headers
        self.flags = c.HAS_FLAGS | c.SEND_FLUSH | c.SEND_TRIM | c.SEND_WRITE_ZEROES | flags
        self.blocks = blocks
        self.statuses = statuses or {}
        self.sent = bytearray()
        self.requests: list[tuple[int, int, int]] = []
        super().__init__(folder)

    def send(self, sock: socket.socket, data: bytes) -> None:
        if sock is self.connections[0]:
            self.sent += data
        sock.sendall(data)

    # negotiation

    def serve(self, sock: socket.socket) -> None:
        self.send(sock, c.HELLO.pack(c.INIT_MAGIC, c.OPTION_MAGIC, c.FLAG_FIXED_NEWSTYLE | c.FLAG_NO_ZEROES))
        assert receive(sock, 4)[-1] & 1
        contexts: dict[str, int] = {}
        headers = "simple"
        while True:
            magic, option, length = c.OPTION.unpack(receive(sock, c.OPTION.size))
            assert magic == c.OPTION_MAGIC
            body = receive(sock, length)
            if option == c.OPT_GO:
                self.go(sock)
                break
            if option == c.OPT_SET_META_CONTEXT and headers != "simple":
                contexts = self.set_contexts(sock, body)
            elif option == c.OPT_EXTENDED_HEADERS and self.headers == "extended":
                headers = "extended"
                self.option_reply(sock, option, c.REP_ACK)
            elif option == c.OPT_STRUCTURED_REPLY and self.headers != "simple":
                headers = "structured"
                self.option_reply(sock, option, c.REP_ACK)
            else:
                self.option_reply(sock, option, c.REP_ERR_UNSUP, b"never heard of it")
        self.transmit(sock, headers, contexts)

    def option_reply(self, sock: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
        self.send(sock, c.OPTION_REPLY.pack(c.OPTION_REPLY_MAGIC, option, kind, len(data)) + data)

    def set_contexts(self, sock: socket.socket, body: bytes) -> dict[str, int]:
        names = [n for n in self.statuses if n.encode() in body]
        ids = {name: number for number, name in enumerate(names, 1)}
        for name, number in ids.items():
            self.option_reply(
                sock, c.OPT_SET_META_CONTEXT, c.REP_META_CONTEXT, struct.pack(">I", number) + name.encode()
            )
        self.option_reply(sock, c.OPT_SET_META_CONTEXT, c.REP_ACK)
        return ids

    def go(self, sock: socket.socket) -> None:
        info = struct.pack(">HQH", c.INFO_EXPORT, len(self.content), self.flags)
        self.option_reply(sock, c.OPT_GO, c.REP_INFO, info)
        if self.blocks:
            self.option_reply(sock, c.OPT_GO, c.REP_INFO, struct.pack(">HIII", c.INFO_BLOCK_SIZE, *self.blocks))
        self.option_reply(sock, c.OPT_GO, c.REP_ACK)

    # transmission

    def transmit(self, sock: socket.socket, headers: str, contexts: dict[str, int]) -> None:
        layout = c.EXTENDED_REQUEST if headers == "extended" else c.REQUEST
        while True:
            magic, _flags, command, cookie, offset, length = layout.unpack(receive(sock, layout.size))
            assert magic == (c.EXTENDED_REQUEST_MAGIC if headers == "extended" else c.REQUEST_MAGIC)
            payload = receive(sock, length) if command == c.CMD_WRITE else b""
            self.requests.append((command, offset, length))
            if command == c.CMD_DISC:
                return
            self.handle(sock, headers, contexts, command, cookie, offset, length, payload)

    def handle(self, sock, headers, contexts, command, cookie, offset, length, payload) -> None:
        if command == c.CMD_READ:
            self.read(sock, headers, cookie, offset, length)
        elif command == c.CMD_BLOCK_STATUS:
            self.status(sock, headers, contexts, cookie, offset, length)
        else:
            if command == c.CMD_WRITE:
                self.content[offset : offset + length] = payload
            elif command == c.CMD_WRITE_ZEROES:
                self.content[offset : offset + length] = bytes(length)
            if headers == "extended":
                self.chunk(sock, headers, cookie, c.REPLY_NONE)
            else:
                self.simple(sock, cookie)

    def simple(self, sock, cookie: int, number: int = 0, data: bytes = b"") -> None:
        self.send(sock, c.SIMPLE_REPLY.pack(c.SIMPLE_REPLY_MAGIC, number, cookie) + data)

    def chunk(self, sock, headers, cookie: int, kind: int, payload: bytes = b"", *, done: bool = True) -> None:
        flags = c.REPLY_FLAG_DONE if done else 0
        if headers == "extended":
            head = struct.pack(">IHHQQQ", c.EXTENDED_REPLY_MAGIC, flags, kind, cookie, 0, len(payload))
        else:
            head = struct.pack(">IHHQI", c.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload))
        self.send(sock, head + payload)

    def read(self, sock, headers, cookie: int, offset: int, length: int) -> None:
        data = bytes(self.content[offset : offset + length])
        if headers == "simple":
            self.simple(sock, cookie, 0, data)
        else:
            self.chunk(sock, headers, cookie, c.REPLY_OFFSET_DATA, c.OFFSET.pack(offset) + data)

    def status(self, sock, headers, contexts, cookie: int, offset: int, length: int) -> None:
        for left, (name, number) in zip(range(len(contexts) - 1, -1, -1), contexts.items(), strict=True):
            rows, at = [], 0
            for count, flags in self.statuses[name]:
                start, end = max(at, offset), min(at + count, offset + length)
                at += count
                if start < end:
                    rows.append((end - start, flags))
            self.status_chunk(sock, headers, cookie, number, rows, done=not left)

    def status_chunk(self, sock, headers, cookie, number, rows, *, done=True) -> None:
        if headers == "extended":
            body = struct.pack(">II", number, len(rows)) + b"".join(struct.pack(">QQ", *row) for row in rows)
            self.chunk(sock, headers, cookie, c.REPLY_BLOCK_STATUS_EXT, body, done=done)
        else:
            body = struct.pack(">I", number) + b"".join(struct.pack(">II", *row) for row in rows)
            self.chunk(sock, headers, cookie, c.REPLY_BLOCK_STATUS, body, done=done)


def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
