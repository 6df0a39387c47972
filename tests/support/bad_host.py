"""A host of a storage, written by hand from docs/host-protocol.md, with one fault at a time: argv[1] names it.

`ok` has none. Standard library only; started as `python bad_host.py FAULT --fd N`.
"""

import json
import os
import socket
import struct
import sys
import threading
import time

FAULT = sys.argv[1]
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
lock = threading.Lock()
state = {"initialized": False, "draining": False, "calls": 0, "running": 0, "cancelled": set(), "components": []}


def has(fault):
    return fault == FAULT


def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    with lock:
        sock.sendall(struct.pack(">I", len(body)) + body)


def answer(request_id, result):
    send({"id": request_id, "result": result})
    if has("answers-twice"):
        send({"id": request_id, "result": result})


def refuse(request_id, kind, reason, message="no", code=-32000):
    data = {"kind": kind, "reason": reason, "message": message, "metadata": {}}
    if has("untyped-errors"):
        data = {"what": "an error"}
    send({"id": request_id, "error": {"code": code, "message": message, "data": data}})


def leave(status=0):
    if has("stays-when-hung-up") and status == 0:
        time.sleep(60)
    os._exit(status)


def read_frames():
    """Bodies of frames. The fault `one-read-one-frame` believes that a read is a frame."""
    if has("one-read-one-frame"):
        while data := sock.recv(65536):
            yield data[4:]
        leave()
    buffer = b""
    while True:
        while len(buffer) < 4:
            data = sock.recv(65536)
            if not data:
                leave()
            buffer += data
        (length,) = struct.unpack(">I", buffer[:4])
        if (length > 8 << 20 and not has("takes-any-length")) or (length == 0 and not has("takes-empty-frames")):
            os._exit(1)
        while len(buffer) < 4 + length:
            data = sock.recv(65536)
            if not data:
                leave()
            buffer += data
        body, buffer = buffer[4 : 4 + length], buffer[4 + length :]
        if body:
            yield body


def initialize(request_id, params):
    if params.get("protocol") != 1 and not has("any-version"):
        return refuse(request_id, "Unsupported", "PROTOCOL_UNSUPPORTED")
    if state["initialized"] and not has("initializes-twice"):
        return refuse(request_id, "FailedPrecondition", "ALREADY_INITIALIZED")
    if has("hangs-at-start"):
        return None
    state["initialized"], state["components"] = True, list(params["components"])
    result = {"protocol": 1, "api_version": "1.0", "components": state["components"], "pid": os.getpid()}
    if has("speaks-protocol-2"):
        result["protocol"] = 2
    if has("serves-more"):
        result["components"] = [*state["components"], "task/undeclared"]
    if has("another-api"):
        result["api_version"] = "7.0"
    if has("bad-log"):
        send({"method": "log", "params": {"level": "shout", "event": "x", "fields": {}}})
    if has("asks-the-kernel"):
        send({"id": 1, "method": "give", "params": {}})
    return answer(request_id, result)


def call(request_id, params):
    state["running"] += 1
    try:
        if has("slow-on-the-reader"):
            time.sleep(0.25)
        elif has("drops-cancelled") or has("drops-calls-at-shutdown"):
            time.sleep(0.2)
        respond(request_id, params)
    finally:
        state["running"] -= 1


def respond(request_id, params):
    if not state["initialized"] and not has("calls-before-initialize"):
        return refuse(request_id, "FailedPrecondition", "HOST_NOT_INITIALIZED")
    if request_id in state["cancelled"] and has("drops-cancelled"):
        return None
    component, method, connection = params.get("component"), params.get("method"), params.get("connection")
    early = has("calls-before-initialize") and not state["initialized"]
    if component not in state["components"] and not has("any-component") and not early:
        return refuse(request_id, "InvalidArgument", "COMPONENT_UNKNOWN")
    if not isinstance(params.get("request", {}), dict) or not isinstance(connection, dict | None):
        if not has("any-call"):
            return refuse(request_id, "InvalidArgument", "CALL_INVALID")
        params["request"], connection = {}, connection if isinstance(connection, dict) else None
    if not isinstance(method, str):
        return refuse(request_id, "InvalidArgument", "CALL_INVALID")
    if connection is None and not has("needs-no-connection"):
        return refuse(request_id, "InvalidArgument", "CONNECTION_REQUIRED")
    if has("prints-secrets"):
        print((connection or {}).get("secrets"), flush=True)
    if has("secret-in-errors") and method != "Health":
        return refuse(request_id, "Internal", "INTERNAL", str((connection or {}).get("secrets")))
    request = params.get("request") or {}
    if has("dies-of-long-names") and len(str(request.get("name", ""))) > 100_000:
        os._exit(9)
    return METHODS.get(method, unknown)(request_id, request)


def unknown(request_id, _request):
    if has("any-method"):
        return answer(request_id, {})
    return refuse(request_id, "Unsupported", "METHOD_UNKNOWN")


def health(request_id, _request):
    state["calls"] += 1
    if (has("changes-its-mind") or has("answers-once-only")) and state["calls"] % 2:
        return refuse(request_id, "Unavailable", "UNAVAILABLE")
    if has("unwell"):
        return answer(request_id, {"ok": False, "message": "out of order", "latency_s": 0.0, "details": {}})
    if has("formless-health"):
        return answer(request_id, {"ok": "yes"})
    if has("result-is-text"):
        return answer(request_id, "fine")
    return answer(request_id, {"ok": True, "message": "", "latency_s": 0.0, "details": {}})


KEYS = ["a", "b", "c"]


def list_objects(request_id, request):
    token, size = request.get("page_token") or "", request.get("page_size") or 50
    if not isinstance(size, int) or size < 0 or not isinstance(token, str) or token not in ["", *KEYS]:
        return refuse(request_id, "InvalidArgument", "PAGE_TOKEN_INVALID")
    if has("undeclared-errors"):
        return refuse(request_id, "Unavailable", "MOON_TOO_FULL")
    start = KEYS.index(token) + 1 if token else 0
    page = KEYS[start : start + size]
    if has("long-pages"):
        page = KEYS[start : start + size + 1]
    if has("skips-an-object") and start:
        page = page[1:]
    more = page and page[-1] != KEYS[-1]
    return answer(request_id, {"objects": [{"name": k} for k in page], "next_page_token": page[-1] if more else ""})


def get_object(request_id, request):
    return refuse(request_id, "NotFound", "OBJECT_NOT_FOUND", str(request.get("name", ""))[:200])


METHODS = {"Health": health, "ListObjects": list_objects, "GetObject": get_object,
           "DeleteObject": lambda i, _: answer(i, {}), "GetUsage": lambda i, _: answer(i, {"used_bytes": -1})}


def shutdown(request_id):
    if has("drops-calls-at-shutdown"):
        answer(request_id, {})
        os._exit(0)
    state["draining"] = True
    answer(request_id, {})

    def drain():
        while state["running"]:
            time.sleep(0.01)
        if has("stays-after-shutdown"):
            time.sleep(60)
        os._exit(3 if has("fails-at-exit") else 0)

    threading.Thread(target=drain, daemon=True).start()


def malformed(request_id):
    if has("takes-list-params") and request_id is not None:
        answer(request_id, {})
    else:
        send({"id": request_id, "error": {"code": -32602, "message": "malformed"}})


def take(message):
    request_id, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if method is None:
        if has("dies-of-odd-messages") and "result" not in message:
            raise ValueError("neither request nor response")
        return
    if request_id is None:
        if method == "cancel" and isinstance(params, dict) and isinstance(params.get("id"), int):
            state["cancelled"].add(params["id"])
        elif has("dies-of-unknown-notifications"):
            raise ValueError(method)
        return
    if not isinstance(request_id, int) or isinstance(request_id, bool) or not isinstance(params, dict):
        malformed(request_id if type(request_id) is int else None)
    elif method == "initialize":
        initialize(request_id, params)
    elif method == "ping":
        answer(request_id, {})
    elif method == "shutdown":
        shutdown(request_id)
    elif method == "call" and has("slow-on-the-reader"):
        call(request_id, params)
    elif method == "call":
        if state["draining"]:
            refuse(request_id, "Unavailable", "HOST_DRAINING")
        else:
            state["running"] += 1
            threading.Thread(target=_call, args=(request_id, params), daemon=True).start()
    elif has("any-method-of-the-protocol"):
        answer(request_id, {})
    else:
        send({"id": request_id, "error": {"code": -32601, "message": "no such method"}})


def _call(request_id, params):
    try:
        call(request_id, params)
    finally:
        state["running"] -= 1


if has("does-not-start"):
    sys.exit("cannot load the plugin")
if has("prints-into-the-protocol"):
    sock.sendall(b"Loading plugin...\n")
for body in read_frames():
    try:
        message = json.loads(body.decode("ascii" if has("ascii-only") else "utf-8"))
    except ValueError:
        if has("takes-garbage"):
            continue
        os._exit(1)
    if not isinstance(message, dict):
        if has("takes-garbage"):
            continue
        os._exit(1)
    take(message)
