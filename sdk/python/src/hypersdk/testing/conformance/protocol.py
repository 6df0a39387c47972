"""Checks of the host protocol, whatever the plugin is for. Each names what a kernel would suffer from."""

from __future__ import annotations

import json
import struct
import time

from hypersdk.plugin.manifest import API_VERSION, ComponentManifest
from hypersdk.testing.conformance.checks import Failed, Group, Warned
from hypersdk.testing.conformance.harness import HostHarness, frame
from hypersdk.testing.conformance.kinds import EFFECTS, methods_of
from hypersdk.testing.conformance.session import PLANTED, Subject
from hypersdk.wire.frames import MAX_FRAME_BYTES

PROTOCOL: Group[Subject] = Group()
_METHOD_NOT_FOUND = -32601
_PIPELINED = 300


def _health(subject: Subject) -> tuple[str, object]:
    component = next(subject.components())
    return component.name, subject.connection(component)


def _burst(subject: Subject, host: HostHarness, component: ComponentManifest | None = None) -> list[int]:
    """As many `Health` calls at once as the declared concurrency allows; their ids."""
    chosen = component or next(subject.components())
    names = {"serial": ["lab"], "per_handle": [f"lab-{n}" for n in range(8)], "parallel": ["lab", "lab-2"] * 16}
    return [
        host.ask_call(chosen.name, "Health", connection=subject.connection(chosen, name))
        for name in names[chosen.concurrency]
    ]


@PROTOCOL.check(
    "host.starts", "A host comes up, and answers `initialize` within 10 s with exactly the declared components.",
    mend="Import lazily what is slow; answer protocol 1, api_version, the components you were given, and your pid.",
)  # fmt: skip
def _starts(subject: Subject) -> None:
    with subject.host(initialized=False) as host:
        answer = subject.initialize(host)
        result = answer.result
        if not isinstance(result, dict):
            raise Failed(f"initialize answers {result!r:.200}, not an object")
        if result.get("protocol") != 1:
            raise Failed(f"it speaks protocol {result.get('protocol')!r}")
        if str(result.get("api_version")).partition(".")[0] != str(API_VERSION[0]):
            raise Failed(f"its api_version is {result.get('api_version')!r}")
        if sorted(result.get("components") or []) != sorted(subject.project.entries):
            raise Failed(f"it serves {result.get('components')}, declared are {sorted(subject.project.entries)}")
        if result.get("pid") != host.process.pid:
            raise Warned(f"its pid is {host.process.pid}, it says {result.get('pid')!r}")


@PROTOCOL.check(
    "host.starts_fast", "It is ready within 2 s, so that swaps and restarts go unnoticed.",
    mend="Move heavy imports (cloud SDKs) from the module's top into the methods that need them.",
)  # fmt: skip
def _starts_fast(subject: Subject) -> None:
    start = time.monotonic()
    with subject.host():
        took = time.monotonic() - start
    if took > 2.0:
        raise Warned(f"it took {took:.1f} s")


@PROTOCOL.check(
    "host.initialize_once", "A second `initialize` is refused, and the host goes on.",
    mend="Answer an error; never load the plugin twice.",
)  # fmt: skip
def _once(subject: Subject) -> None:
    with subject.host() as host:
        if host.request("initialize", subject.introduction()).error is None:
            raise Failed("it was accepted")
        subject.must_live(host, "a second initialize")


@PROTOCOL.check(
    "host.initialize_version", "An unknown protocol version is refused, not guessed at.",
    mend="Compare `protocol` with 1 first; answer Unsupported.",
)  # fmt: skip
def _version(subject: Subject) -> None:
    with subject.host(initialized=False) as host:
        if host.request("initialize", {**subject.introduction(), "protocol": 99}).error is None:
            raise Failed("it accepted protocol 99")


@PROTOCOL.check(
    "host.call_before_initialize", "A call before `initialize` is answered with an error.",
    mend="Keep a flag; answer FailedPrecondition.",
)  # fmt: skip
def _too_early(subject: Subject) -> None:
    with subject.host(initialized=False) as host:
        name, connection = _health(subject)
        if host.call(name, "Health", connection=connection).error is None:
            raise Failed("it was answered with a result")


@PROTOCOL.check(
    "frames.split", "A frame that comes byte by byte, and many in one piece, are understood.",
    mend="Collect bytes until the length is there and then until the body is; read on in what is left.",
)  # fmt: skip
def _split(subject: Subject) -> None:
    host = subject.shared
    for number, size in ((1_000_001, 1), (1_000_002, 3)):
        host.expect(number)
        data = frame({"jsonrpc": "2.0", "id": number, "method": "ping", "params": {}})
        for at in range(0, len(data), size):
            host.send_raw(data[at : at + size])
        host.wait(number)
    many = range(1_000_003, 1_000_003 + _PIPELINED)
    for number in many:
        host.expect(number)
    host.send_raw(b"".join(frame({"jsonrpc": "2.0", "id": n, "method": "ping", "params": {}}) for n in many))
    for number in many:
        host.wait(number)


@PROTOCOL.check(
    "frames.text", "Text of any script, and large numbers, survive the way.",
    mend="Decode frames as UTF-8; do not turn integers into floats.",
)  # fmt: skip
def _text(subject: Subject) -> None:
    host = subject.shared
    for number, escaped in ((2_000_001, True), (2_000_002, False)):
        params = {"t": "☃ \U0001f600 \u202e", "n": 2**63 - 1}
        message = {"jsonrpc": "2.0", "id": number, "method": "ping", "params": params}
        body = json.dumps(message, ensure_ascii=escaped).encode()
        host.expect(number)
        host.send_raw(struct.pack(">I", len(body)) + body)
        host.wait(number)


def _must_end(subject: Subject, data: bytes, what: str) -> None:
    with subject.host() as host:
        host.send_raw(data)
        if host.wait_end(subject.patience_s / 2) is None and not host.ended:
            raise Failed(f"after {what} it neither closed the connection nor ended in time")


@PROTOCOL.check(
    "frames.oversized", "A frame above 8 MiB ends the connection at once, before its body is read.",
    mend="Judge the length before you make room for it; close the socket and exit.",
)  # fmt: skip
def _oversized(subject: Subject) -> None:
    _must_end(subject, struct.pack(">I", MAX_FRAME_BYTES + 1) + b"{", "a frame of 8 MiB and a byte")
    _must_end(subject, b"\xff\xff\xff\xff", "a frame of 4 GiB")


@PROTOCOL.check(
    "frames.empty", "A frame of no bytes ends the connection.",
    mend="Close the socket and exit: after it nothing in the stream can be trusted.",
)  # fmt: skip
def _empty(subject: Subject) -> None:
    _must_end(subject, struct.pack(">I", 0), "an empty frame")


@PROTOCOL.check(
    "frames.garbage", "A body that is no JSON object ends the connection.",
    mend="As for an empty frame; a list (a batch) is none either.",
)  # fmt: skip
def _garbage(subject: Subject) -> None:
    for body in (b"{not json", b"\xff\xfe", b"[1]", b"null"):
        _must_end(subject, struct.pack(">I", len(body)) + body, f"the body {body!r}")


@PROTOCOL.check(
    "rpc.unknown_method", "A method that it does not know is answered with -32601.",
    mend="Answer {\"error\": {\"code\": -32601, \"message\": …}}; later kernels ask whether a method is there.",
)  # fmt: skip
def _unknown_method(subject: Subject) -> None:
    answer = subject.shared.request("frobnicate", {})
    if answer.code != _METHOD_NOT_FOUND:
        raise Failed(f"it answered {answer.error or answer.result}")


@PROTOCOL.check(
    "rpc.unknown_notification", "A notification that it does not know is ignored.",
    mend="No answer, no end: later kernels may tell more.",
)  # fmt: skip
def _unknown_notification(subject: Subject) -> None:
    host = subject.shared
    host.notify("frobnicated", {"x": 1})
    host.notify("cancel", {"id": 999_999})
    host.notify("cancel", {"id": "none"})
    subject.must_live(host, "notifications that mean nothing")


@PROTOCOL.check(
    "rpc.malformed", "Requests of a wrong form are refused one by one; the connection lives on.",
    mend="Check that id is an integer, method a string and params an object; answer -32600 or -32602.",
)  # fmt: skip
def _malformed(subject: Subject) -> None:
    with subject.host() as host:
        for message in (
            {"jsonrpc": "2.0", "id": "text", "method": "ping", "params": {}},
            {"jsonrpc": "2.0", "id": True, "method": "ping", "params": {}},
            {"jsonrpc": "2.0", "id": 1.5, "method": "ping", "params": {}},
            {"jsonrpc": "2.0", "method": 7, "params": {}},
            {"jsonrpc": "2.0", "result": {}, "id": 424242},
            {"jsonrpc": "2.0"},
            {},
        ):
            host.send(message)
        host.expect(3_000_001)
        host.send({"jsonrpc": "2.0", "id": 3_000_001, "method": "ping", "params": [1]})
        if host.wait(3_000_001).error is None:
            raise Failed("params that are a list were accepted")
        subject.must_live(host, "malformed requests")


@PROTOCOL.check(
    "call.unknown", "Calls of unknown components and methods are answered with typed errors.",
    mend="InvalidArgument for a component that is not yours, Unsupported for a method; `data` has kind and reason.",
)  # fmt: skip
def _unknown_call(subject: Subject) -> None:
    host = subject.shared
    name, connection = _health(subject)
    for component, method in (("format/nobody", "Health"), (name, "Frobnicate"), (name, ""), ("", "Health")):
        answer = host.call(component, method, connection=connection)
        if answer.error is None or not answer.kind or not answer.reason:
            raise Failed(f"{component!r} {method!r} was answered with {answer.error or answer.result}")
    subject.must_live(host, "calls of what is not there")


@PROTOCOL.check(
    "call.malformed", "Calls with parameters of a wrong type are refused, and the host lives on.",
    mend="Check the types of component, method, request and connection before you use them.",
)  # fmt: skip
def _malformed_call(subject: Subject) -> None:
    host = subject.shared
    name, connection = _health(subject)
    good = {"component": name, "method": "Health", "service": "", "request": {}, "connection": connection}
    for wrong in (
        {"component": 7}, {"method": ["x"]}, {"request": [1, 2]}, {"request": "text"}, {"connection": "lab"},
        {"connection": 7},
    ):  # fmt: skip
        answer = host.wait(host.ask("call", {**good, **wrong}))
        if answer.error is None and "timeout_s" not in wrong:
            raise Failed(f"a call with {wrong} was answered with a result")
    for odd in ({"timeout_s": "soon"}, {"timeout_s": None}, {"surprise": 1}):
        host.wait(host.ask("call", {**good, **odd}))
    host.wait(host.ask("call", {}))
    subject.must_live(host, "malformed calls")


@PROTOCOL.check(
    "ping.under_load", "`ping` is answered within 5 s while calls run.",
    mend="Answer ping where you read; run calls elsewhere (threads, tasks), so that they never block the reader.",
)  # fmt: skip
def _ping_under_load(subject: Subject) -> None:
    host = subject.shared
    calls = _burst(subject, host)
    slowest = max(host.request("ping", {}, subject.patience_s / 2).seconds for _ in range(20))
    for number in calls:
        host.wait(number)
    if slowest > 2.0:
        raise Warned(f"the slowest took {slowest:.1f} s")


@PROTOCOL.check(
    "call.concurrent", "Calls that come at once, as the declared concurrency allows, are each answered once and alike.",
    mend="Key instances by component and connection; guard what calls share. If that is too hard, declare `serial`.",
)  # fmt: skip
def _concurrent(subject: Subject) -> None:
    host = subject.shared
    for component in subject.components():
        answers = [host.wait(number) for number in _burst(subject, host, component)]
        kinds = {answer.kind or "result" for answer in answers}
        if len(kinds) > 1:
            raise Failed(f"{component.name}: the same call was answered in different ways: {', '.join(sorted(kinds))}")
    subject.must_live(host, "concurrent calls")


@PROTOCOL.check(
    "call.cancel", "A call that is cancelled is answered all the same, once, and the host lives on.",
    mend="Answer Cancelled when it had not begun, else when it ends; the kernel counts on one answer.",
)  # fmt: skip
def _cancel(subject: Subject) -> None:
    host = subject.shared
    numbers = _burst(subject, host)
    for number in numbers:
        host.notify("cancel", {"id": number})
    for number in numbers:
        host.wait(number)
    subject.must_live(host, "cancelled calls")


@PROTOCOL.check(
    "shutdown.drains", "`shutdown` is answered at once; calls in flight are answered; then the host exits within 5 s.",
    mend="Answer, refuse new calls with Unavailable, wait for the running ones, exit with status 0.",
)  # fmt: skip
def _shutdown(subject: Subject) -> None:
    with subject.host() as host:
        running = _burst(subject, host)
        if host.request("shutdown", {}, subject.patience_s / 2).error is not None:
            raise Failed("it was answered with an error")
        for number in running:
            host.wait(number)
        status = host.wait_end(subject.patience_s * 0.6)
        if status is None:
            raise Failed("it still runs")
        if status != 0:
            raise Failed(f"it exited with status {status}")


@PROTOCOL.check(
    "shutdown.hang_up", "When the kernel's end closes, the host exits within 5 s.",
    mend="Exit when a read gives 0 bytes, whatever is running: nobody is left to answer.",
)  # fmt: skip
def _hang_up(subject: Subject) -> None:
    with subject.host() as host:
        host.hang_up()
        if host.wait_end(subject.patience_s / 2) is None:
            raise Failed("it still runs")


@PROTOCOL.check(
    "output.apart", "What the plugin prints goes to stdout and stderr, never into the protocol, and holds no secret.",
    mend="Keep the socket's descriptor out of the plugin's reach; print nothing of what is in `secrets`.",
)  # fmt: skip
def _output(subject: Subject) -> None:
    with subject.host() as host:
        for component in subject.components():
            for method in sorted(methods_of(component.kind) - EFFECTS):
                _ignoring(host, component.name, method, subject.connection(component))
        subject.must_live(host, "calls of every method")
        told = json.dumps([*host.notifications])
        if PLANTED in host.output or PLANTED in told:
            raise Failed("a secret was printed or logged")


def _ignoring(host: HostHarness, component: str, method: str, connection: object) -> None:
    answer = host.call(component, method, connection=connection)
    if answer.error is not None and PLANTED in json.dumps(answer.error):
        raise Failed(f"{component} {method}: a secret is in the error")


@PROTOCOL.check(
    "log.form", "Log notifications have a level, an event and fields.",
    mend='{"method": "log", "params": {"level": "info", "event": "noun_verbed", "fields": {…}}}.',
)  # fmt: skip
def _log(subject: Subject) -> None:
    for message in subject.shared.notifications:
        params = message.get("params")
        if message.get("method") != "log":
            continue
        fields = (("event", str), ("fields", dict), ("level", str))
        if not isinstance(params, dict) or not all(isinstance(params.get(name), kind) for name, kind in fields):
            raise Failed(f"{str(message)[:300]}")
        if params["level"] not in {"debug", "info", "warning", "error"}:
            raise Failed(f"a level {params['level'][:40]!r}")

