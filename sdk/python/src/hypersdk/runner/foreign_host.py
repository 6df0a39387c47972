"""A host that is not written in Python, run by a runner for its own attempt: docs/host-protocol.md, "Disks over NBD".

Its life: started with its own end of a socket pair, introduced, asked, ended by `close`; it also ends when this process
does, however that happens, because then its socket closes. Its working directory is a folder of the attempt that nobody
else may enter (0700): there it puts the sockets on which it serves disks.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypersdk.errors import FailedPrecondition, HyperError, Internal, Unavailable
from hypersdk.runner.log import AttemptLog
from hypersdk.runner.spec import ComponentSpec
from hypersdk.wire.rpc import Method, Peer, Request

PROTOCOL = 1
START_S = 10.0
CALL_S = 120.0
"""Where the manifest says nothing of the method. Opening a disk may take a snapshot on the platform."""
STOP_S = 5.0


class ForeignHost:
    """Thread-safe."""

    def __init__(self, name: str, component: ComponentSpec, folder: Path, log: AttemptLog) -> None:
        self.name = name
        self.folder = folder
        self._log = log
        self._methods: Mapping[str, Any] = component.manifest.get("methods") or {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        ours, theirs = socket.socketpair()
        try:
            self._process = _start(component.host, theirs, folder)
        except OSError as exc:
            ours.close()
            text = f"cannot start the host of {name}, {component.host[0]!r}: {exc.strerror}"
            raise Unavailable(text, reason="PROCESS_START_FAILED") from exc
        finally:
            theirs.close()
        self._peer = Peer(ours, {"log": Method(self._on_log)})
        threading.Thread(target=self._peer.run, name=f"host-{name}", daemon=True).start()
        try:
            self._introduce(component)
        except BaseException:
            self.close()
            raise

    def call(
        self, method: str, request: Mapping[str, Any], connection: Mapping[str, Any], *, service: str = ""
    ) -> dict[str, Any]:
        """One call of the component. Raises what it answered; Internal (PLUGIN_RESULT_INVALID)."""
        timeout_s = float((self._methods.get(method) or {}).get("timeout_s", CALL_S))
        params = {
            "component": self.name, "method": method, "service": service, "request": dict(request),
            "connection": dict(connection), "timeout_s": timeout_s,
        }  # fmt: skip
        result = self._peer.request("call", params, timeout_s)
        if not isinstance(result, dict):
            text = f"{self.name} answered {method} with something that is no message"
            raise Internal(text, reason="PLUGIN_RESULT_INVALID")
        return result

    def close(self) -> None:
        """Ask it to end, and see to it. Idempotent."""
        with contextlib.suppress(HyperError):  # whatever it answers, it is ended below
            self._peer.request("shutdown", {}, STOP_S)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._log.write("host_killed", "warning", {"component": self.name, "cause": "did not stop when asked"})
            self._process.kill()
            self._process.wait()
        self._peer.close()
        for left in self.folder.iterdir():
            with contextlib.suppress(OSError):  # a folder that it made; it goes with the attempt's
                left.unlink()

    def _introduce(self, component: ComponentSpec) -> None:
        answer = self._peer.request(
            "initialize",
            {
                "protocol": PROTOCOL, "generation": component.generation, "search_path": list(component.search_path),
                "components": {self.name: component.entry}, "manifest": dict(component.package),
            },
            START_S,
        )  # fmt: skip
        if not isinstance(answer, dict) or answer.get("protocol") != PROTOCOL:
            raise FailedPrecondition(
                f"the host of {self.name} does not speak protocol {PROTOCOL}", reason="HANDSHAKE_INVALID"
            )
        served = answer.get("components")
        if not isinstance(served, list) or self.name not in served:
            raise FailedPrecondition(f"the host does not serve {self.name}", reason="HANDSHAKE_INVALID")

    def _on_log(self, request: Request) -> None:
        params = request.params
        fields = params.get("fields")
        level, event = str(params.get("level", "info")), str(params.get("event", ""))[:1024]
        self._log.write(event, level, {"component": self.name, **(fields if isinstance(fields, dict) else {})})


def _start(words: Sequence[str], theirs: socket.socket, folder: Path) -> subprocess.Popen[bytes]:
    """Its output goes where this process's goes: into the attempt's output.log."""
    return subprocess.Popen(
        [*words, "--fd", str(theirs.fileno())],
        stdin=subprocess.DEVNULL, close_fds=True, pass_fds=(theirs.fileno(),), cwd=folder,
    )  # fmt: skip
