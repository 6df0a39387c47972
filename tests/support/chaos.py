"""Hosts killed and stopped at random under load, and every failed call judged by what the contract allows.

Half of the plugins declare their method repeatable: none of those calls may fail. The other half declare that it is
not: such a call may end with UNAVAILABLE and OUTCOME_UNKNOWN, when its host died under it, and with nothing else.

Each answer tells the process that made it, so that a host has recovered with the first answer of another one. No host
dies more than three times: more, and it is the backoff that is measured, and after five the quarantine.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypersdk.api.formats.v1 import formats_pb2, formats_pb2_grpc
from hypersdk.client import Client

from .wheels import FORMAT_CODE, make_wheel

DEATHS = 3
CODE = FORMAT_CODE.replace(
    'return {"version": "@version"}',
    'import os, time\n        time.sleep(0.005)\n        return {"pid": str(os.getpid())}',
)


def component_of(number: int) -> str:
    """Of plugin `number`; odd ones may be repeated."""
    return f"{'steady' if number % 2 else 'once'}{number}"


def install(client: Client, folder: Path, plugins: int) -> list[str]:
    """As many plugins; the names of their components."""
    names = [component_of(number) for number in range(plugins)]
    for name in names:
        distribution = f"hypersdk-format-{name}"
        repeatable = name.startswith("steady")
        described = {"concurrency": "parallel", "methods": {"GetFormat": {"idempotent": repeatable}}}
        manifest = {
            "manifest_version": 1, "name": distribution, "api_version": "1.0",
            "components": {f"format/{name}": described},
        }  # fmt: skip
        wheel = make_wheel(folder, "1.0", distribution=distribution, component=name, code=CODE, manifest=manifest)
        client.plugins.upload(wheel)
    return names


@dataclass
class Harm:
    """What was done to a host: monotonic seconds."""

    component: str
    pid: int
    signal: signal.Signals
    time: float


@dataclass
class Chaos:
    """Clients, the harm done, and what came of it."""

    address: str
    components: list[str]
    timeout_s: float = 20.0
    answers: list[tuple[str, int, float]] = field(default_factory=list)
    unknown: int = 0
    forbidden: list[str] = field(default_factory=list)
    harms: list[Harm] = field(default_factory=list)
    _running: bool = True

    def call_until_stopped(self, component: str) -> None:
        """One client thread."""
        with grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = formats_pb2_grpc.FormatServiceStub(channel)
            request = formats_pb2.GetFormatRequest(name=f"formats/{component}")
            while self._running:
                try:
                    answer = stub.GetFormat(request, timeout=self.timeout_s)
                except grpc.RpcError as exc:
                    self._judge(component, exc)
                    continue
                self.answers.append((component, int(answer.create_options["pid"]), time.monotonic()))

    def harm_for(self, client: Client, seconds: float, pause_s: float, seed: int) -> None:
        """Kill or stop a host every `pause_s`, at most DEATHS times each; then wait for the last to recover."""
        chance = random.Random(seed)
        deck = self.components * DEATHS
        chance.shuffle(deck)
        end = time.monotonic() + seconds
        while deck and time.monotonic() < end:
            component = deck.pop()
            host = client.plugins.get(f"plugins/format-{component}").active_generation.host
            if host.pid:
                number = chance.choice([signal.SIGKILL, signal.SIGSTOP])
                self.harms.append(Harm(component, host.pid, number, time.monotonic()))
                os.kill(host.pid, number)
            time.sleep(pause_s * chance.uniform(0.5, 1.5))
        deadline = time.monotonic() + 30
        while any(seconds is None for seconds in self.recoveries()) and time.monotonic() < deadline:
            time.sleep(0.05)

    def recoveries(self) -> list[float | None]:
        """For each harm, the seconds to the first answer of another process; None: there was none yet."""
        answers = tuple(self.answers)
        return [
            next((t - h.time for c, pid, t in answers if c == h.component and pid != h.pid and t > h.time), None)
            for h in self.harms
        ]

    def stop(self) -> None:
        self._running = False

    def _judge(self, component: str, error: grpc.RpcError) -> None:
        status = rpc_status.from_call(error)
        reason = ""
        for detail in status.details if status is not None else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                reason = info.reason
        lost = error.code() is grpc.StatusCode.UNAVAILABLE and reason == "OUTCOME_UNKNOWN"
        if lost and component.startswith("once"):
            self.unknown += 1
        else:
            self.forbidden.append(f"{component}: {error.code()} {reason}: {error.details()}")


@contextmanager
def under_chaos(address: str, components: list[str], callers: int = 2) -> Iterator[Chaos]:
    """`callers` clients for each component, until the end of the context."""
    chaos = Chaos(address, components)
    clients = [
        threading.Thread(target=chaos.call_until_stopped, args=[component])
        for component in components for _ in range(callers)
    ]  # fmt: skip
    for thread in clients:
        thread.start()
    try:
        yield chaos
    finally:
        chaos.stop()
        for thread in clients:
            thread.join()
