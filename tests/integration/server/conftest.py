"""A real daemon in a temporary state directory, and ways to talk to it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class Daemon:
    """`hypersdkd` as a process. `stop` returns its exit status."""

    def __init__(self, state: Path, *flags: str) -> None:
        self.state = state
        self.log = state.with_name("daemon.log")
        command = [sys.executable, "-m", "hypersdk_kernel.server", "--state-dir", str(state), "--log-format", "json"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log.read_text()}")
            if not (self.state / "hypersdkd.sock").exists():
                time.sleep(0.01)
                continue
            with contextlib.suppress(grpc.FutureTimeoutError), self.unix() as channel:
                grpc.channel_ready_future(channel).result(0.5)
                return
        raise AssertionError(f"the daemon did not come up:\n{self.log.read_text()}")

    def unix(self) -> grpc.Channel:
        return grpc.insecure_channel(f"unix:{self.state}/hypersdkd.sock")

    def tcp(self, token: str | None = None) -> grpc.Channel:
        """With the daemon's own token unless another is given; "" sends none."""
        if token is None:
            token = (self.state / "token").read_text().strip()
        credentials = grpc.ssl_channel_credentials((self.state / "tls" / "ca.pem").read_bytes())
        if token:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
        return grpc.secure_channel((self.state / "address").read_text().strip(), credentials)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def daemon():
    """One daemon for all tests that change nothing it would miss."""
    with tempfile.TemporaryDirectory(prefix="hypersdk-") as folder:
        running = Daemon(Path(folder) / "state", "--heartbeat-s", "0.3")
        try:
            running.wait_ready()
            yield running
        finally:
            running.stop()


@pytest.fixture
def start(tmp_path_factory):
    """Starts daemons of a test's own; they are killed at its end."""
    started = []
    with tempfile.TemporaryDirectory(prefix="hypersdk-") as folder:

        def make(*flags: str, state: Path | None = None) -> Daemon:
            one = Daemon(state or Path(folder) / f"state{len(started)}", *flags)
            started.append(one)
            return one

        yield make
        for one in started:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()


def details_of(error: grpc.RpcError) -> dict:
    """What the status of a refused call says: code, reason, fields, retry (seconds or None)."""
    status = rpc_status.from_call(error)
    out = {"code": error.code(), "reason": "", "fields": [], "retry": None, "metadata": {}}
    for detail in status.details if status is not None else ():
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                if kind is error_details_pb2.ErrorInfo:
                    assert message.domain == "hypersdk.dev"
                    out["reason"], out["metadata"] = message.reason, dict(message.metadata)
                elif kind is error_details_pb2.BadRequest:
                    out["fields"] = [violation.field for violation in message.field_violations]
                else:
                    out["retry"] = message.retry_delay.seconds + message.retry_delay.nanos / 1e9
    return out


@pytest.fixture
def refused():
    """Calls something that must fail with a status; returns what it says."""

    def call(function, *arguments, **keywords) -> dict:
        with pytest.raises(grpc.RpcError) as caught:
            answer = function(*arguments, **keywords)
            if hasattr(answer, "__iter__"):
                list(answer)
        return details_of(caught.value)

    return call
