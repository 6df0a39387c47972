"""service/probe: the daemon's health over plain HTTP, for load balancers, uptime monitors and Kubernetes probes, which
speak neither gRPC nor TLS with a token.

    GET /healthz   200 `SERVING` or 503 with the reason; what is asked is grpc.health.v1 of the daemon, each time
    GET /livez     200 as long as this process answers

Nothing else is told, so that it can stand open where the daemon cannot. Not here: metrics.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, ClassVar

from hypersdk.plugin import Service, ServiceContext

__all__ = ["Probe"]

REQUEST_S = 10.0
"""Seconds for a client to say what it wants: one that says nothing holds a thread no longer."""
MAX_CLIENTS = 64


class Probe(Service):
    """One HTTP server on the listening socket that the kernel hands over."""

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:  # noqa: ARG002 - it has none
        self._timeout_s = float(config.get("timeout_s", 5))

    def run(self, context: ServiceContext) -> None:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        channel = grpc.insecure_channel(context.address)
        stub = health_pb2_grpc.HealthStub(channel)
        metadata = (("authorization", f"Bearer {context.token}"),)

        def ask() -> str:
            """Empty when the daemon serves, else why not."""
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s, metadata=metadata)
            except grpc.RpcError as exc:
                return str(exc.code().name)
            return "" if answer.status == answer.SERVING else health_pb2.HealthCheckResponse.ServingStatus.Name(
                answer.status
            )

        server = _Server(context.listeners["listen"], ask)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        host, port = server.socket.getsockname()[:2]
        context.log("info", "probe_listens", host=host, port=port)
        context.ready()
        context.stopping.wait()
        server.shutdown()  # takes no more connections; those taken are answered
        server.server_close()
        channel.close()


class _Server(ThreadingMixIn, HTTPServer):
    """On a socket that is bound and listens already. Its threads are joined by `server_close`, each within
    REQUEST_S."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, ask: Callable[[], str]) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()  # the one that the base class made
        self.socket = listener
        listener.setblocking(False)  # another process may take the connection that select told of
        self.ask = ask
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = self.socket.accept()
        client.settimeout(REQUEST_S)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "hypersdk"
    sys_version = ""
    answers: ClassVar[dict[str, Callable[[_Handler], str]]] = {
        "/healthz": lambda handler: handler.server.ask(),
        "/livez": lambda _handler: "",
    }

    def do_GET(self) -> None:
        answer = self.answers.get(self.path.partition("?")[0])
        if answer is None:
            self._send(404, "there are /healthz and /livez")
            return
        why = answer(self)
        self._send(503 if why else 200, why or "SERVING")

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def _send(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """A probe every second would drown the log."""
