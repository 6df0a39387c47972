"""The agent's side towards its runner: attached over the run directory's socket, re-attached when that breaks; commands
are wishes, sent again after each attach.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from hypersdk.errors import HyperError
from hypersdk.runner.remotedir import RemoteDir
from hypersdk.wire.rpc import Method, Peer, Request

COMMAND_S = 10.0


class LocalRunner:
    """Started by `follow`. `changed` is called whenever something is new: `committed`, `progress`, or `gone`."""

    def __init__(self, folder: RemoteDir, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._changed = changed
        self._lock = threading.Lock()
        self._wishes: dict[str, tuple[str, dict[str, Any]]] = {}
        self._peer: Peer | None = None
        self.committed = 0
        self.urgent = False
        """Something other than progress was committed; whoever takes it up resets this first."""
        self.progress: dict[str, Any] | None = None
        self.exit_status: int | None = None

    def follow(self) -> None:
        threading.Thread(target=self._wait, name="wait", daemon=True).start()
        threading.Thread(target=self._attach, name="attach", daemon=True).start()

    @property
    def gone(self) -> bool:
        return self.exit_status is not None

    def command(self, method: str, params: dict[str, Any]) -> None:
        """What is wished last of each kind holds."""
        kind = "pause" if method == "resume" else method
        with self._lock:
            self._wishes[kind] = (method, params)
            peer = self._peer
        if peer is not None:
            self._send(peer, method, params)

    def ping(self) -> None:
        """Raises what the runner's silence is."""
        peer = self._peer
        if peer is not None:
            peer.request("ping", {}, COMMAND_S)

    def _wait(self) -> None:
        assert self._folder.process is not None
        status = self._folder.process.wait()
        self.exit_status = status
        self._changed()

    def _attach(self) -> None:
        while not self.gone:
            try:
                sock = self._folder.connect()
            except OSError:
                time.sleep(0.05)
                continue
            peer = Peer(sock, {"record": Method(self._record), "progress": Method(self._progress)})
            reader = threading.Thread(target=peer.run, name="runner", daemon=True)
            reader.start()
            try:
                peer.request("attach", {"after_seq": self.committed}, 30.0)
                with self._lock:
                    self._peer = peer
                    wishes = list(self._wishes.values())
                for method, params in wishes:
                    self._send(peer, method, params)
                reader.join()
            except HyperError:
                time.sleep(0.2)
            finally:
                with self._lock:
                    self._peer = None
                peer.close()

    @staticmethod
    def _send(peer: Peer, method: str, params: dict[str, Any]) -> None:
        try:
            peer.request(method, params, COMMAND_S)
        except HyperError as exc:
            print(f"hypersdk agent: {method}: {exc.message}", flush=True)  # noqa: T201 - the executor's log

    def _record(self, request: Request) -> dict[str, Any]:
        seq = request.params.get("seq")
        if isinstance(seq, int) and seq > self.committed:
            self.committed = seq
            self.urgent = self.urgent or request.params.get("type") != "progress"
            self._changed()
        return {}

    def _progress(self, request: Request) -> dict[str, Any]:
        self.progress = dict(request.params)
        self._changed()
        return {}
