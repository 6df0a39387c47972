"""A host spoken by hand from docs/host-protocol.md, that misbehaves on demand. Standard library only.

How it starts is the entry of its first component (`fake:ok`, `fake:hang`, …); what a call does is its method.
"""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time

sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
lock = threading.Lock()
behaviour = ["ok"]
running = []
cancelled = []


def receive_exactly(count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    with lock:
        sock.sendall(struct.pack(">I", len(body)) + body)


def initialize(params):
    mode = behaviour[0] = next(iter(params["components"].values())).partition(":")[2]
    answer = {"protocol": 1, "api_version": "1.0", "components": list(params["components"]), "pid": os.getpid()}
    if mode == "hang":
        time.sleep(60)
    elif mode == "die":
        print("Traceback: the plugin could not be loaded", file=sys.stderr, flush=True)
        os._exit(3)
    elif mode == "garbage":
        sock.sendall(b"Traceback (most recent call last):\n")
    elif mode == "huge":
        sock.sendall(struct.pack(">I", 1 << 30) + b"x" * 1000)
    elif mode == "protocol":
        answer["protocol"] = 7
    elif mode == "api":
        answer["api_version"] = "9.0"
    elif mode == "more":
        answer["components"].append("task/undeclared")
    elif mode == "fewer":
        answer["components"] = []
    elif mode == "text":
        return "ready"
    return answer


def call_behaving(request_id, params):
    """As the mode has it: some versions turn bad once they serve."""
    if behaviour == ["dies"]:
        os._exit(9)
    elif behaviour == ["hangs"]:
        time.sleep(60)
    elif behaviour == ["errs"]:
        data = {"kind": "Internal", "reason": "OOPS", "message": "a defect", "metadata": {}}
        send({"id": request_id, "error": {"code": -32000, "message": "no", "data": data}})
    else:
        call(request_id, params)


def call(request_id, params):
    method, request = params["method"], params["request"]
    running.append(request_id)
    seen = len(running)
    result = {"pid": os.getpid(), "running": seen, "params": params, "ok": behaviour != ["unwell"]}
    if method in ("Sleep", "GetSlow"):
        time.sleep(request["seconds"])
    elif method in ("Die", "GetDeath"):
        os._exit(9)
    elif method in ("GetDeathOnce", "DieOnce"):
        if not os.path.exists(request["marker"]):
            open(request["marker"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    elif method == "Stop":
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(30)  # under load the stop was seen to take effect only after an answer had gone out
    elif method == "Print":
        for i in range(request["lines"]):
            print(f"line {i}", flush=True)
        print("to stderr", file=sys.stderr, flush=True)
    elif method == "Log":
        send({"method": "log", "params": {"level": "warning", "event": "said", "fields": request["fields"]}})
    elif method == "Garbage":
        sock.sendall(b"\0\0\0\5junk!")
    elif method == "List":
        result = ["no", "message"]
    elif method == "Environment":
        result = {"environment": dict(os.environ), "argv": sys.argv, "cancelled": cancelled}
    elif method == "Orphan":
        if os.fork() == 0:
            time.sleep(request["seconds"])
            os._exit(0)
        os._exit(4)
    running.remove(request_id)
    if method == "Refuse":
        data = {"kind": "NotFound", "reason": "MACHINE_NOT_FOUND", "message": "no such machine", "metadata": {"a": "b"}}
        send({"id": request_id, "error": {"code": -32000, "message": "no", "data": data}})
    else:
        send({"id": request_id, "result": result})


while True:
    message = json.loads(receive_exactly(struct.unpack(">I", receive_exactly(4))[0]))
    method = message["method"]
    if method == "initialize":
        mode = next(iter(message["params"]["components"].values())).partition(":")[2]
        if mode == "refuse":
            data = {"kind": "FailedPrecondition", "reason": "PLUGIN_IMPORT_FAILED", "message": "no module named x"}
            send({"id": message["id"], "error": {"code": -32000, "message": "no", "data": data}})
        else:
            send({"id": message["id"], "result": initialize(message["params"])})
    elif method == "call":
        target = call if message["params"]["method"] == "Health" else call_behaving
        threading.Thread(target=target, args=(message["id"], message["params"]), daemon=True).start()
    elif method == "cancel":
        cancelled.append(message["params"]["id"])
    elif method == "shutdown":
        send({"id": message["id"], "result": {}})
        os._exit(0)
    else:
        send({"id": message["id"], "result": {}})
