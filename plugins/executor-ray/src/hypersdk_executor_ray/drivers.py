"""Driver: the plugin's end of the process that has Ray in it (driver.py): started when it is needed, and anew when it
has died; its answers matched to whoever asked."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from hypersdk.errors import DeadlineExceeded, FailedPrecondition, HyperError, Unavailable

START_S = 25.0
ANSWER_S = 20.0
LEAVE_S = 5.0
_SCRIPT = Path(__file__).with_name("driver.py")


class Driver:
    """Thread-safe. `close` ends the process; what it placed goes on."""

    def __init__(self, python: str, config: dict[str, Any]) -> None:
        self._python = python
        self._config = config
        self._lock = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._next = 1
        self._starting = False
        self._answers: dict[int, dict[str, Any]] = {}

    def ask(self, method: str, **fields: Any) -> Any:
        """Raises Unavailable (RAY_AWAY), FailedPrecondition (RAY_MISSING), DeadlineExceeded."""
        with self._lock:
            process = self._running()
            number, self._next = self._next, self._next + 1
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps({"id": number, "method": method, **fields}) + "\n")
                process.stdin.flush()
            except OSError as exc:
                raise _away("its driver has ended") from exc
            return self._answer(process, number, ANSWER_S)

    def close(self) -> None:
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(LEAVE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _running(self) -> subprocess.Popen[str]:
        self._lock.wait_for(lambda: not self._starting)
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._answers.clear()
        self._starting = True
        try:
            self._process = self._start()
        finally:
            self._starting = False
            self._lock.notify_all()
        return self._process

    def _start(self) -> subprocess.Popen[str]:
        try:
            process = subprocess.Popen(
                [self._python, "-I", "-B", str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, encoding="utf-8", env=_environment(),
            )  # fmt: skip
        except OSError as exc:
            raise _missing(f"{self._python}: {exc.strerror}") from exc
        assert process.stdin is not None
        threading.Thread(target=self._read, args=(process,), name="ray driver", daemon=True).start()
        try:
            process.stdin.write(json.dumps(self._config) + "\n")
            process.stdin.flush()
            self._answer(process, 0, START_S)
        except (OSError, HyperError) as exc:
            process.kill()
            process.wait()
            if isinstance(exc, OSError):
                raise _missing(f"{self._python} ended at once; it has no Ray, or one that does not work") from exc
            if isinstance(exc, DeadlineExceeded):
                raise _away(exc.message) from exc
            raise
        return process

    def _answer(self, process: subprocess.Popen[str], number: int, timeout_s: float) -> Any:
        """With the lock held, which waiting lets go of."""
        came = self._lock.wait_for(lambda: number in self._answers or process.poll() is not None, timeout_s)
        answer = self._answers.pop(number, None)
        if answer is None:
            if came and number == 0:
                raise _missing(f"{self._python} ended at once; it has no Ray, or one that does not work")
            if came:
                raise _away("its driver has ended")
            raise DeadlineExceeded(f"Ray did not answer in {timeout_s:g} s")
        if "error" in answer:
            raise _away(str(answer["error"]))
        return answer.get("result")

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                answer = json.loads(line)
                number = int(answer["id"])
            except (ValueError, TypeError, KeyError):
                continue  # no answer of ours
            with self._lock:
                self._answers[number] = answer
                self._lock.notify_all()
        process.wait()
        with self._lock:
            self._lock.notify_all()


def _environment() -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    return {"HOME": "/nonexistent", **kept, **quiet}


def _away(why: str) -> Unavailable:
    return Unavailable(f"the Ray cluster cannot be asked: {why}", reason="RAY_AWAY")


def _missing(why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{why}; install the cluster's version of Ray (`hypersdk-executor-ray[ray]` names it), and give the "
        "connection's `python`",
        reason="RAY_MISSING",
    )
