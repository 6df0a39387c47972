"""A real hypersdkd on a state directory of its own, started, killed and restarted by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent


class Daemon:
    """Its life: `start`, any number of `kill` + `start`, `close`. The log is `folder/hypersdkd.log`."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        """For hyperctl and the client library."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HYPERSDK_")}
        return kept | {"HYPERSDK_STATE_DIR": str(self.state), "COLUMNS": "200"}

    @property
    def log(self) -> str:
        return (self.folder / "hypersdkd.log").read_text(errors="replace")

    def start(self, timeout_s: float = 20.0) -> Daemon:
        ready = [self.state / "hypersdkd.sock", self.state / "address"]
        for path in ready:
            path.unlink(missing_ok=True)
        with (self.folder / "hypersdkd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "hypersdkd", "--state-dir", self.state, "--log-level", "debug", *self.flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ,
            )  # fmt: skip
        deadline = time.monotonic() + timeout_s
        while not all(path.exists() for path in ready):
            assert self.process.poll() is None, f"hypersdkd ended with {self.process.returncode}:\n{self.log[-4000:]}"
            assert time.monotonic() < deadline, f"hypersdkd did not start:\n{self.log[-4000:]}"
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        """kill -9, as a power cut for the kernel alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """End it and every runner that it left, whatever state the test left them in."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
        for pid in self.runners():
            os.kill(pid, signal.SIGKILL)

    def runners(self) -> list[int]:
        """Process ids of living runners of this daemon, known by their working directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    where = os.readlink(entry / "cwd")
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if where.startswith(str(self.state)) and b"hypersdk.runner" in command:
                    found.append(int(entry.name))
        return found

    def hyperctl(self, *arguments: str, check: bool = True, **extra_env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [BIN / "hyperctl", *map(str, arguments)], env=self.environ | extra_env,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if check:
            said = f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log[-3000:]}"
            assert done.returncode == 0, said
        return done
