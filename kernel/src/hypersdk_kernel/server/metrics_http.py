"""`GET /metrics` over plain HTTP on loopback, for Prometheus.

No authentication: what is told are figures without the name of any job, connection, machine or person, and only this
machine can ask. A request that a web page made a browser send (DNS rebinding) has another Host header and is refused.
Not a web server: one method, one path, one answer a connection, and limits on all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from hypersdk.errors import HyperError

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 8192
MAX_CONNECTIONS = 8
REQUEST_S = 5.0
ANSWER_S = 30.0
_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

log = structlog.get_logger(__name__)


class MetricsServer:
    """Its life: `start`, then scrapes, then `close`."""

    def __init__(self, render: Callable[[], Awaitable[bytes]], content_type: str) -> None:
        self._render = render
        self._content_type = content_type
        self._open = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """The port it listens on. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, HOST, port, limit=MAX_REQUEST_BYTES)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in tuple(self._answering):
                task.cancel()
            await asyncio.gather(*self._answering)
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS:
                status, body = "503 Service Unavailable", b"too many scrapes at once\n"
            else:
                async with asyncio.timeout(REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                status, body = await self._answer(head)
            kind = self._content_type if status.startswith("200") else "text/plain; charset=utf-8"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\nX-Content-Type-Options: nosniff\r\n\r\n".encode("ascii") + body
            )
            async with asyncio.timeout(ANSWER_S):
                await writer.drain()
        except asyncio.CancelledError:
            log.debug("scrape_dropped", why="the kernel is stopping")  # asyncio logs handlers that end cancelled
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
            log.debug("scrape_dropped", why=type(exc).__name__)
        finally:
            self._open -= 1
            self._answering.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> tuple[str, bytes]:
        lines = head.decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        fields = (line.partition(":") for line in lines[1:])
        host = next((value.strip() for name, _, value in fields if name.strip().lower() == "host"), "")
        if host.rpartition(":")[0] not in _HOSTS and host not in _HOSTS:
            return "403 Forbidden", b"ask for localhost\n"
        if path != "/metrics":
            return "404 Not Found", b"there is /metrics\n"
        if method != "GET":
            return "405 Method Not Allowed", b"GET it\n"
        try:
            async with asyncio.timeout(ANSWER_S):
                return "200 OK", await self._render()
        except (HyperError, TimeoutError) as exc:
            log.warning("scrape_failed", error=str(exc))
            return "503 Service Unavailable", b"the kernel's figures cannot be read now\n"
