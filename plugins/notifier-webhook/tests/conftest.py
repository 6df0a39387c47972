"""A web server of the test's own on loopback, which can be made to refuse, hang, drip, redirect or go away."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypersdk.testing.notifier_contract import Receiver


class Hook(Receiver):
    """`requests`: (headers, body) of every request that was answered 2xx. `answer`: (status, headers) for the next."""

    def __init__(self, tls=None):
        self.requests = []
        self.seen = 0
        self.answer = (204, {})
        self.hang = threading.Event()
        self.silent = self.drip = False
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                hook.serve(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.listening = True

    def serve(self, handler):
        self.seen += 1
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if self.silent:
            self.hang.wait(30)
            return
        status, headers = self.answer
        if self.drip:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X" * 1000:
                if self.hang.wait(0.05):
                    return
                handler.wfile.write(bytes([byte]))
        if 200 <= status < 300:
            self.requests.append((dict(handler.headers), body))
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def url(self, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.port}/hooks/x?token=in-the-path"

    def received(self):
        return [headers["webhook-id"] for headers, _ in self.requests]

    def refuse(self, *, permanently):
        self.answer = (410, {}) if permanently else (503, {})

    def fall_silent(self):
        self.silent = True

    def go_away(self):
        if self.listening:
            self.listening = False
            self.hang.set()
            self.server.shutdown()
            self.server.server_close()

    def close(self):
        self.go_away()
        self.thread.join(5)


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def make_hook():
    """Hooks with TLS contexts of the test's own."""
    made = []

    def make(tls=None):
        made.append(Hook(tls))
        return made[-1]

    yield make
    for one in made:
        one.close()
