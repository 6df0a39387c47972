"""A throw-away daemon that serves one plugin from its source folder and reloads it on save.

Its life: `DevDaemon(…)` writes its settings, `start` waits until it answers, `lines` gives what it logs until it ends
or `terminate` was called, `stop` ends it. It is a session of its own: the terminal's Ctrl-C reaches us alone. The
state directory is the caller's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from hypersdk.errors import NotFound, Unavailable

_START_S = 30.0
_STOP_S = 15.0
_POLL_S = 0.05


def daemon_program() -> Path:
    """`hypersdkd` beside this interpreter, or on PATH. Raises NotFound (DAEMON_NOT_INSTALLED)."""
    beside = Path(sys.executable).parent / "hypersdkd"
    found = str(beside) if beside.exists() else shutil.which("hypersdkd")
    if found is None:
        raise NotFound(
            "there is no hypersdkd beside this hyperctl or on PATH; install hypersdk-kernel into the same environment",
            reason="DAEMON_NOT_INSTALLED",
        )
    return Path(found)


class DevDaemon:
    """`settings` go into the daemon's configuration file beside `plugin_paths`."""

    def __init__(self, state: Path, plugin: Path, flags: Sequence[str] = ()) -> None:
        self.state = state
        state.mkdir(parents=True, exist_ok=True)
        config = state / "dev.toml"
        config.write_text(
            f"plugin_paths = [{json.dumps(str(plugin))}]\nreload_editable = true\ntcp = false\nprobation_s = 2\n",
            encoding="utf-8",
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HYPERSDK_")}
        self._environ = {**kept, "HYPERSDK_CONFIG": str(config)}
        self._command = [
            str(daemon_program()), "--state-dir", str(state), "--log-format", "json", "--log-level", "info", *flags,
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self._ending = False

    @property
    def address(self) -> str:
        return f"unix:{self.state}/hypersdkd.sock"

    def start(self) -> None:
        """Raises Unavailable (DAEMON_UNREACHABLE) that says what it printed last."""
        (self.state / "hypersdkd.sock").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            self._command, env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not (self._ending or (self.state / "hypersdkd.sock").exists()):
            if self._process.poll() is not None:
                assert self._process.stdout is not None
                last = self._process.stdout.read().strip().splitlines()[-3:]
                raise Unavailable(f"hypersdkd did not start: {' | '.join(last)}", reason="DAEMON_UNREACHABLE")
            if time.monotonic() > deadline:
                raise Unavailable(f"hypersdkd did not start within {_START_S:g} s", reason="DAEMON_UNREACHABLE")
            time.sleep(_POLL_S)

    def lines(self) -> Iterator[Mapping[str, Any]]:
        """What it logs, as it comes, until it ends. A line that is no JSON is `{"event": line}`."""
        assert self._process is not None
        assert self._process.stdout is not None
        arrived: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, arrived), daemon=True).start()
        while not self._ending:
            try:  # not blocked in a read: a signal that comes just before one would be noticed with the next line only
                line = arrived.get(timeout=_POLL_S)
            except Empty:
                continue
            if line is None:
                return
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            yield found if isinstance(found, dict) else {"event": line.rstrip("\n"), "level": "info"}

    def terminate(self) -> None:
        """No more lines. For signal handlers."""
        self._ending = True

    def stop(self) -> None:
        """Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)  # its output is read on by the pump: a full pipe would keep it from ending
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _pump(stream: IO[str], arrived: SimpleQueue[str | None]) -> None:
    for line in stream:
        arrived.put(line)
    arrived.put(None)
