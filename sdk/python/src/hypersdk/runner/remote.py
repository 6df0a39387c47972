"""The agent: `python -I -B -m hypersdk.runner.remote`, on a machine that an executor chose, with the order on its
standard input (docs/host-protocol.md, "Remote runners").

It enrols (the order's token, once, for a certificate of this attempt), takes the spec and the checkpoint over that
connection, starts the ordinary runner in a directory of its own, and then relays until the kernel has everything:
records, checkpoints, progress and logs up, commands down. The runner does not notice when the kernel is away; it ends
itself when that lasts for `orphan_s`, because by then its attempt may be repeated elsewhere. A kernel that says that
the attempt lives no more ends the runner at once. So does the end of the standard input.

Not here: what the task does (hypersdk.runner), TLS (remotetls), the directory (remotedir, remotefeed).
"""

from __future__ import annotations

import base64
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, cast

from hypersdk.errors import FailedPrecondition, HyperError, Unavailable, from_exception
from hypersdk.runner import remoteorder
from hypersdk.runner.remotedir import RemoteDir, check_components, decode
from hypersdk.runner.remotefeed import LOGS, JournalFeed, LogFeed, checkpoint_chunks
from hypersdk.runner.remotelocal import LocalRunner
from hypersdk.runner.remotetls import Identity, connect
from hypersdk.wire.rpc import Method, Peer, Request, bounded_json

ANSWER_S = 60.0
FIRST_CONTACT_S = 120.0
LOG_EVERY_S = 1.0
MAX_PACE_S = 60.0
AFTER_ORPHAN_S = 60.0
"""How long a finished attempt is kept for a kernel that is away, beyond the time that its runner would have."""
EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_INPUT_CLOSED, EXIT_FENCED = 2, 3, 4, 5
NOT_LIVE = "ATTEMPT_NOT_LIVE"
COMMANDS = ("cancel", "pause", "resume", "throttle")


class Agent:
    """One attempt on this machine."""

    def __init__(self, order: remoteorder.AgentOrder) -> None:
        self._order = order
        self._folder = RemoteDir(order)
        self._local = LocalRunner(self._folder, self._wake)
        self._feed = JournalFeed(self._folder.attempt)
        self._changed = threading.Condition()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._identity: Identity | None = None
        self._renew_at = 0.0
        self._heard = time.monotonic()
        self._acked = 0
        self._checkpoint_due = False
        self._logs: dict[str, LogFeed] = {}
        self._logs_at = 0.0
        self._sent_progress: dict[str, Any] | None = None
        self._pace_s = 0.2
        self._next_at = 0.0
        self._started = False

    def run(self) -> int:
        """The exit status."""
        threading.Thread(target=self._execute_commands, name="commands", daemon=True).start()
        delay = 0.2
        while True:
            try:
                if self._identity is None:
                    self._enrol()
                if self._session():
                    self._folder.remove()
                    return 0
                delay = 0.2
            except (OSError, ValueError, HyperError) as exc:
                _say(f"{type(exc).__name__}: {exc}")
                if isinstance(exc, HyperError) and not exc.retryable:
                    self._folder.kill()
                    self._folder.remove()
                    return EXIT_FENCED if exc.reason == NOT_LIVE else EXIT_REFUSED
            if self._abandoned():
                self._folder.kill()
                self._folder.remove()
                return EXIT_UNREACHABLE
            time.sleep(delay)
            delay = min(delay * 2, 5.0)

    def stop(self) -> None:
        self._folder.kill()

    # -- the connection --------------------------------------------------------------------------------------

    def _abandoned(self) -> bool:
        silent = time.monotonic() - self._heard
        if not self._started:
            return silent > FIRST_CONTACT_S
        return self._local.gone and silent > self._order.orphan_s + AFTER_ORPHAN_S

    def _enrol(self) -> None:
        peer = self._connect(None)
        try:
            params = {"uid": self._order.uid, "attempt": self._order.attempt, "token": self._order.token}
            self._become(peer.request("enrol", params, ANSWER_S))
        finally:
            peer.close()

    def _become(self, answer: Any) -> None:
        self._identity = Identity(str(answer["certificate"]), str(answer["key"]))
        self._renew_at = time.monotonic() + float(answer["lifetime_s"]) / 2

    def _connect(self, identity: Identity | None) -> Peer:
        stream = connect(self._order.address, self._order.ca, identity)
        commands = {name: Method(self._command, self._commands.put) for name in COMMANDS}
        peer = Peer(
            cast("socket.socket", stream),  # as much of one as Peer uses
            {**commands, "ping": Method(self._ping, self._commands.put), "kill": Method(self._kill)},
        )
        threading.Thread(target=self._read, args=(peer,), name="kernel", daemon=True).start()
        return peer

    def _read(self, peer: Peer) -> None:
        peer.run()
        self._wake()

    def _session(self) -> bool:
        """One connection. True when the kernel has everything."""
        peer = self._connect(self._identity)
        try:
            answer = peer.request("hello", {"started": self._started}, ANSWER_S)
            self._heard = time.monotonic()
            self._acked = int(answer["seq"])
            self._take_pace(answer)
            self._next_at = 0.0
            self._feed.rewind(self._acked)
            if not self._started:
                try:
                    self._start(peer, answer)
                except (HyperError, OSError) as exc:
                    error = from_exception(exc, doing="starting the runner")
                    peer.request("failed", {"error": bounded_json(error)}, ANSWER_S)
                    return True
            return self._relay(peer)
        finally:
            peer.close()

    def _start(self, peer: Peer, answer: dict[str, Any]) -> None:
        spec = answer["spec"]
        check_components(spec.get("components") or {})
        checkpoint = None
        total = answer.get("checkpoint_bytes")
        if isinstance(total, int):
            checkpoint = b""
            while len(checkpoint) < total:
                piece = decode(peer.request("read_checkpoint", {"offset": len(checkpoint)}, ANSWER_S)["data"])
                if not piece:
                    raise Unavailable("the checkpoint became shorter while it was read", reason="CONNECTION_CLOSED")
                checkpoint += piece
        self._folder.prepare()
        self._folder.take_over(checkpoint, answer.get("held") or [])
        self._folder.start(spec, self._order.orphan_s)
        limit = int(spec.get("log_file_bytes") or 0) * int(spec.get("log_files") or 0)
        self._logs = {name: LogFeed(self._folder.attempt / file, limit) for name, file in LOGS.items()}
        self._started = True
        self._local.follow()

    # -- relaying --------------------------------------------------------------------------------------------

    def _relay(self, peer: Peer) -> bool:
        while not peer.closed.is_set():
            gone = self._local.gone
            if gone:
                self._feed.finish()
            finished = False
            if gone or self._local.urgent or time.monotonic() >= self._next_at:
                self._local.urgent = False
                self._feed.committed = max(self._feed.committed, self._local.committed)
                finished = self._send_records(peer)
                self._send_progress(peer)
                self._next_at = time.monotonic() + self._pace_s
            if gone or finished or time.monotonic() >= self._logs_at:
                self._send_logs(peer)
            if finished:
                peer.request("done", {}, ANSWER_S)
                return True
            if gone and not self._feed.waiting:
                peer.request("exited", {"status": self._local.exit_status}, ANSWER_S)
                return True
            if time.monotonic() > self._renew_at:
                self._become(peer.request("renew", {}, ANSWER_S))
            with self._changed:
                if not (peer.closed.is_set() or self._local.gone or self._local.urgent):
                    self._changed.wait(self._patience())
        return False

    def _patience(self) -> float:
        """What is not urgent is told at the pace that the kernel wants, which has thousands of us."""
        news = self._local.committed > self._acked or self._local.progress is not self._sent_progress
        return max(0.01, min(LOG_EVERY_S, self._next_at - time.monotonic())) if news else LOG_EVERY_S

    def _take_pace(self, told: dict[str, Any]) -> None:
        pace = told.get("pace_s")
        if isinstance(pace, int | float) and not isinstance(pace, bool) and 0 < pace <= MAX_PACE_S:
            self._pace_s = float(pace)

    def _send_records(self, peer: Peer) -> bool:
        """True when `finished` was among them."""
        finished = False
        while records := self._feed.take(self._acked):
            self._checkpoint_due = self._checkpoint_due or any(r.get("type") == "checkpointed" for r in records)
            if self._checkpoint_due:
                for chunk in checkpoint_chunks(self._folder.job):
                    peer.request("checkpoint", chunk, ANSWER_S)
                self._checkpoint_due = False
            try:
                self._acked = int(peer.request("records", {"records": records}, ANSWER_S)["seq"])
            except HyperError:
                self._feed.rewind(0)
                raise
            finished = finished or records[-1].get("type") == "finished"
        return finished

    def _send_progress(self, peer: Peer) -> None:
        progress = self._local.progress
        if progress is not None and progress is not self._sent_progress:
            peer.notify("progress", progress)
            self._sent_progress = progress

    def _send_logs(self, peer: Peer) -> None:
        self._logs_at = time.monotonic() + max(LOG_EVERY_S, self._pace_s)
        for name, feed in self._logs.items():
            while data := feed.take():
                peer.request("log", {"name": name, "data": base64.b64encode(data).decode("ascii")}, ANSWER_S)
                feed.taken(len(data))

    # -- commands --------------------------------------------------------------------------------------------

    def _execute_commands(self) -> None:
        while True:
            self._commands.get()()

    def _command(self, request: Request) -> dict[str, Any]:
        self._local.command(request.method, request.params)
        return {}

    def _ping(self, request: Request) -> dict[str, Any]:
        self._take_pace(request.params)
        self._heard = time.monotonic()
        try:
            self._local.ping()
        except HyperError:
            return {"silent": True}
        return {}

    def _kill(self, _request: Request) -> dict[str, Any]:
        self._folder.kill()
        return {}

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _say(text: str) -> None:
    print(f"hypersdk agent: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the executor's log


def _read_order() -> remoteorder.AgentOrder:
    line = sys.stdin.buffer.readline(remoteorder.MAX_ORDER_BYTES + 2)
    if not line:
        raise FailedPrecondition("the order comes on standard input; there was none", reason="AGENT_ORDER_INVALID")
    return remoteorder.parse(line)


def main() -> NoReturn:
    try:
        agent = Agent(_read_order())
    except HyperError as exc:
        _say(exc.message)
        os._exit(EXIT_REFUSED)

    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass  # nothing is said after the order
        agent.stop()
        _say("standard input was closed: the attempt ends")
        os._exit(EXIT_INPUT_CLOSED)

    threading.Thread(target=watch, name="input", daemon=True).start()
    status = agent.run()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
