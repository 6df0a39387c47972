"""Checks of every method that a component answers: with requests that are right, and with hostile ones.

The kernel validates requests by their protos before it sends them, so hostile ones are what a kernel with a defect, or
a later one, might send: the plugin may refuse them in any typed way, and must live.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from hypersdk.errors import KINDS
from hypersdk.plugin.manifest import ComponentManifest
from hypersdk.testing.conformance.checks import Failed, Group, Skipped, Warned
from hypersdk.testing.conformance.harness import Answer, HostHarness
from hypersdk.testing.conformance.kinds import EFFECTS, RUNTIME, methods_of, service_of
from hypersdk.testing.conformance.session import Subject, demands

METHODS: Group[Subject] = Group()

DEFECTS = frozenset({"UNEXPECTED_EXCEPTION", "PLUGIN_EXITED", "PLUGIN_RESULT_INVALID", "RESULT_NOT_JSON"})
"""Reasons by which the Python host reports a defect of the plugin."""
_AGAINST = frozenset({"Internal", "Unavailable", "DeadlineExceeded"})
"""What a kernel counts against a fresh version when its manifest does not declare the reason."""
_REASON = re.compile(r"[A-Z][A-Z0-9_]{2,62}")
_MAX_MESSAGE = 8192
_DEEP: Any = "x"
for _ in range(200):
    _DEEP = {"x": _DEEP}
HOSTILE: tuple[Any, ...] = (
    {"name": 7, "page_size": "many", "path": [], "spec": "none", "key": None, "usage": [], "notification": 3},
    {"name": "x" * 1_000_000, "path": "/" + "x" * 100_000, "page_token": "y" * 100_000, "prefix": "z" * 10_000},
    {"name": "../../etc/passwd", "path": "../../etc/passwd\x00", "prefix": "..\\..", "page_token": "\x00"},
    {"name": "\u202e\ud83d\ude00\x1b[31m", "path": "\u202e", "page_token": "☃", "prefix": "\x1b]0;x\x07"},
    {"page_size": -1, "size_bytes": -(2**63), "timeout_s": "-1"},
    {"page_size": 2**62, "page_token": "AAAA", "name": "connections/other/machines/../../x"},
    {"deep": _DEEP, "spec": _DEEP, "usage": _DEEP},
    {"no_such_field": True, "": "", "__class__": "x", "constructor": {"prototype": {}}},
)


def good_requests(subject: Subject, component: ComponentManifest, method: str) -> list[Any]:
    """What the samples give, or what any component of its kind can answer."""
    sample = subject.sample(component)
    given = (sample.get("requests") or {}).get(method)
    if given is not None:
        return given if isinstance(given, list) else [given]
    if method == "Plan":
        return [{"spec": dict(sample.get("spec") or {})}] if "spec" in sample else []
    if method in {"Health", "ListFormats", "ListPriceTables", "GetUsage"}:
        return [{}]
    if method == "GetFormat":
        return [{"name": f"formats/{component.id}"}]
    if method in {"GetPriceTable", "ListPrices"}:
        return [{("parent" if method == "ListPrices" else "name"): f"prices/{component.id}"}]
    if method.startswith("List"):
        return [{"page_size": 1}, {}]
    return []


def calls(subject: Subject) -> Iterator[tuple[ComponentManifest, str]]:
    for component in subject.components():
        for method in sorted(methods_of(component.kind)):
            yield component, method


def call(subject: Subject, host: HostHarness, component: ComponentManifest, method: str, request: Any) -> Answer:
    return host.call(
        component.name, method, request, subject.connection(component), service=service_of(component.kind, method)
    )


def judged(answer: Answer, what: str) -> Answer:
    """The answer, if its form is right whatever it says."""
    if answer.error is None:
        if not isinstance(answer.result, dict):
            raise Failed(f"{what}: the result is {type(answer.result).__name__}, not an object")
        return answer
    message = answer.error.get("message")
    if not isinstance(message, str) or len(message) > _MAX_MESSAGE:
        raise Failed(f"{what}: the error's message is no string of at most {_MAX_MESSAGE} characters")
    if answer.kind not in KINDS or not _REASON.fullmatch(answer.reason):
        raise Failed(f"{what}: the error has kind {answer.kind!r} and reason {answer.reason!r}: {message:.200}")
    return answer


@METHODS.check(
    "method.valid", "Every method answers a valid request with a result, or with an error of the tree.",
    mend="Raise hypersdk.errors, or answer `data` with kind, reason and message; an Internal is a defect. Give "
    "tests/conformance.json a config and requests that work.",
)  # fmt: skip
def _valid(subject: Subject) -> None:
    tried = 0
    for component, method in calls(subject):
        if not subject.configured(component):
            continue
        for request in good_requests(subject, component, method):
            answer = judged(call(subject, subject.shared, component, method, request), f"{component.name} {method}")
            tried += 1
            if answer.reason in DEFECTS:
                raise Failed(f"{component.name} {method}: {(answer.error or {}).get('message')}")
    if not tried:
        raise Skipped("tests/conformance.json gives no config to call it with")


@METHODS.check(
    "method.hostile", "Every method refuses hostile requests in a typed way, and the host lives on.",
    mend="Check types, lengths and names before use; never build a path or a query from them unchecked.",
)  # fmt: skip
def _hostile(subject: Subject) -> None:
    for component, method in calls(subject):
        if method in EFFECTS or not subject.configured(component):
            continue  # what is hostile to these, their contracts try
        for request in HOSTILE:
            what = f"{component.name} {method} with {json.dumps(request)[:80]}"
            answer = judged(call(subject, subject.shared, component, method, request), what)
            if answer.reason in DEFECTS:
                raise Failed(f"{what}: {(answer.error or {}).get('message')}")
        subject.must_live(subject.shared, f"hostile requests to {component.name} {method}")


@METHODS.check(
    "method.unconfigured", "A component without a connection, or with the least config that it allows, lives.",
    mend="Refuse a call without a connection; where no field is required, work with none.",
)  # fmt: skip
def _unconfigured(subject: Subject) -> None:
    kinds = 0
    for component in subject.components():
        if subject.connection(component) is None:
            continue
        kinds += 1
        empty = {"name": "connections/empty", "config": {}, "secrets": {}}
        for connection in (None,) if demands(component) else (None, empty):
            what = f"{component.name} Health with {connection}"
            answer = judged(subject.shared.call(component.name, "Health", {}, connection), what)
            if connection is None and answer.error is None and component.kind != "service":
                raise Failed(f"{component.name} answered without a connection")
            if answer.reason in DEFECTS:
                raise Failed(f"{component.name} with an empty config: {(answer.error or {}).get('message')}")
    if not kinds:
        raise Skipped("its kinds have no connection")


@METHODS.check(
    "method.health", "`Health` answers ok with the sample's configuration, and has message, latency and details.",
    mend="Do the cheapest call that proves that it works; answer {ok, message, latency_s, details} and never raise.",
)  # fmt: skip
def _health(subject: Subject) -> None:
    tried = 0
    for component in subject.components():
        if not subject.configured(component) or "Health" not in methods_of(component.kind):
            continue
        tried += 1
        answer = call(subject, subject.shared, component, "Health", {})
        result = answer.result
        if answer.error is not None:
            raise Failed(f"{component.name}: {answer.error.get('message')}")
        fields = (("ok", bool), ("message", str), ("latency_s", int | float))
        if not isinstance(result, dict) or not all(isinstance(result.get(name), kind) for name, kind in fields):
            raise Failed(f"{component.name} answers {result!r:.200}")
        if not result["ok"]:
            raise Failed(f"{component.name} is not well with the sample's config: {result['message']}")
    if not tried:
        raise Skipped("tests/conformance.json gives no config to ask with")


@METHODS.check(
    "method.declared_errors", "Errors that speak against a plugin have reasons that its manifest declares.",
    mend="Add the reason to the component's `errors`; what is not declared counts as a defect when a swap is judged.",
)  # fmt: skip
def _declared(subject: Subject) -> None:
    for component, method in calls(subject):
        requests = [*good_requests(subject, component, method), *(() if method in EFFECTS else HOSTILE)]
        for request in requests if subject.configured(component) else ():
            answer = call(subject, subject.shared, component, method, request)
            known = RUNTIME | DEFECTS | set(component.errors)
            if answer.error is not None and answer.reason and answer.reason not in known:
                text = f"{component.name} {method} raised {answer.reason}, which the manifest does not declare"
                raise Failed(text) if answer.kind in _AGAINST else Warned(text)


@METHODS.check(
    "method.idempotent", "Methods that are declared idempotent answer the same twice.",
    mend="Have no effect that shows, or take `idempotent` back: the kernel repeats such calls after a crash.",
)  # fmt: skip
def _idempotent(subject: Subject) -> None:
    tried = 0
    for component, method in calls(subject):
        policy = component.methods.get(method)
        if policy is None or not policy.idempotent or not subject.configured(component):
            continue
        for request in good_requests(subject, component, method):
            tried += 1
            first, second = (call(subject, subject.shared, component, method, request) for _ in range(2))
            if (first.error is None) != (second.error is None) or first.reason != second.reason:
                raise Failed(f"{component.name} {method}: first {first.reason or 'a result'}, then "
                             f"{second.reason or 'a result'}")  # fmt: skip
    if not tried:
        raise Skipped("nothing idempotent could be called with the samples")


@METHODS.check(
    "method.pages", "Lists come in pages no longer than asked for, end, and are the same whatever the page size.",
    mend="Start a page after the last item of the one before; refuse tokens that you did not issue.",
)  # fmt: skip
def _pages(subject: Subject) -> None:
    tried = 0
    for component, method in calls(subject):
        if not method.startswith("List") or not subject.configured(component):
            continue
        tried += 1
        base: dict[str, Any] = next(iter(good_requests(subject, component, method)), {})
        small, large = (_all_pages(subject, component, method, {**base, "page_size": size}) for size in (1, 1000))
        if small != large:
            raise Failed(f"{component.name} {method}: {len(small)} items in pages of 1, {len(large)} in one of 1000")
    if not tried:
        raise Skipped("it lists nothing, or tests/conformance.json gives no config")


def _all_pages(subject: Subject, component: ComponentManifest, method: str, request: dict[str, Any]) -> list[Any]:
    items: list[Any] = []
    token = ""
    for _ in range(2000):
        answer = call(subject, subject.shared, component, method, {**request, "page_token": token})
        if answer.error is not None:
            raise Failed(f"{component.name} {method}: {answer.error.get('message')}")
        rows = next((value for value in answer.result.values() if isinstance(value, list)), [])
        if len(rows) > request["page_size"]:
            raise Failed(f"{component.name} {method}: a page of {len(rows)}, asked for were {request['page_size']}")
        items += [row.get("name", row) if isinstance(row, dict) else row for row in rows]
        token = str(answer.result.get("next_page_token", ""))
        if not token:
            return items
    raise Warned(f"{component.name} {method}: more than 2,000 pages of the sample; give a smaller one")
