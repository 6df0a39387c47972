"""The driver: a process of its own with Ray in it, started by `drivers.Driver` with a Python that has the cluster's
Ray.

Ray is 200 MB, wants the cluster's very version, and ends its process when it is unhappy; none of that belongs into a
plugin host. Standard library and Ray only: this file is run by another Python than the plugin's. It speaks JSON lines:
`{"id", "method", …}` on standard input, `{"id", "result"}` or `{"id", "error"}` on standard output. The first line is
the configuration. It ends with its standard input.

Each order is a detached actor, named by the order's reference, that is never restarted by Ray. The actor holds the
resources; the agent is its child and ends with it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError

ANSWER_S = 1.0
"""An actor that says nothing in so long is pending, or its node is out of reach."""
LINGER_S = 60.0


def actor_class() -> Any:
    """In a function, so that Ray sends the class itself: its machines need not have this file."""

    class Placed:
        def __init__(self, python: list[str], linger_s: float) -> None:
            self._python, self._linger_s = python, linger_s
            self._process: Any = None
            self._failure = ""

        def begin(self, order: str) -> None:
            """Start the agent, once. What is printed here goes into Ray's logs: nothing is."""
            import os
            import subprocess
            import threading
            import time

            if self._process is not None or self._failure:
                return
            try:
                self._process = subprocess.Popen(
                    self._python, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
                    env={k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHON"))},
                )  # fmt: skip
                self._process.stdin.write(order.encode() + b"\n")
                self._process.stdin.flush()
            except OSError as exc:
                self._failure = f"{self._python[0]}: {exc.strerror}"

            def leave() -> None:
                if self._process is not None:
                    self._process.wait()
                time.sleep(self._linger_s)
                os._exit(0)  # what it took is free, whether or not anybody asked

            threading.Thread(target=leave, daemon=True).start()

        def state(self) -> dict[str, Any]:
            import ray

            status = None if self._process is None else self._process.poll()
            return {
                "node": ray.get_runtime_context().get_node_id(), "failure": self._failure,
                "begun": self._process is not None, "status": status,
            }  # fmt: skip

    return Placed


class Orders:
    """The cluster, as the plugin needs it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._namespace = config["namespace"]
        self._python = config["agent"]
        if config.get("auth_token_path"):
            os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"] = "token", config["auth_token_path"]
        host, _, port = config["address"].rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), 5.0).close()  # Ray itself would try for minutes
        ray.init(
            address=config["address"], namespace=self._namespace, log_to_driver=False, logging_level="ERROR",
            configure_logging=False,
        )  # fmt: skip
        self._class = ray.remote(actor_class())
        self._lock = threading.Lock()
        self._seen: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}

    def submit(self, reference: str, agent: str, options: dict[str, Any]) -> dict[str, str]:
        with self._lock:
            if reference in self._seen:
                return self._state(reference, self._seen[reference])
            handle = self._class.options(
                name=reference, namespace=self._namespace, lifetime="detached", get_if_exists=True,
                max_restarts=0, max_task_retries=0, max_concurrency=4, **options,
            ).remote(self._python, LINGER_S)  # fmt: skip
            self._seen[reference] = handle
        handle.begin.remote(agent)
        return {"placement": "pending", "node": "", "message": ""}

    def status(self, reference: str) -> dict[str, str]:
        handle = self._seen.get(reference)
        if handle is None:
            try:
                handle = ray.get_actor(reference, namespace=self._namespace)
            except ValueError:
                return {"placement": "unknown", "node": "", "message": ""}
            self._seen[reference] = handle
        return self._state(reference, handle)

    def _state(self, reference: str, handle: Any) -> dict[str, str]:
        try:
            told = ray.get(handle.state.remote(), timeout=ANSWER_S)
        except (GetTimeoutError, ActorUnavailableError):
            node = self._nodes.get(reference, "")
            waiting = "no machine has room for it yet, or none fits" if not node else "its machine does not answer"
            return {"placement": "pending" if not node else "lost", "node": node, "message": waiting}
        except (ActorDiedError, RayActorError) as exc:
            return self._dead(reference, exc)
        self._nodes[reference] = told["node"]
        if told["failure"] or told["status"] is not None:
            message = told["failure"] or f"the agent ended with status {told['status']}"
            return {"placement": "ended", "node": told["node"], "message": message}
        return {"placement": "running" if told["begun"] else "pending", "node": told["node"], "message": ""}

    def _dead(self, reference: str, exc: Exception) -> dict[str, str]:
        """The actor is no more. On a machine that lives its process has ended; of another one nobody knows."""
        node = self._nodes.get(reference, "")
        alive = any(n["NodeID"] == node and n["Alive"] for n in ray.nodes())
        return {"placement": "ended" if alive or not node else "lost", "node": node, "message": type(exc).__name__}

    def cancel(self, reference: str) -> dict[str, str]:
        handle = self._seen.get(reference)
        try:
            ray.kill(handle or ray.get_actor(reference, namespace=self._namespace), no_restart=True)
        except ValueError:
            pass  # it has ended, or never was
        return {}

    def nodes(self) -> list[dict[str, Any]]:
        """Ray tells what is free of all machines together only."""
        return [
            {"name": node["NodeID"], "alive": bool(node["Alive"]), "total": node.get("Resources", {}), "free": {}}
            for node in ray.nodes()
        ]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Ray prints is no answer
    lock = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    try:
        orders = Orders(json.loads(sys.stdin.readline()))
    except Exception as exc:  # noqa: BLE001 - Ray raises what it likes; whoever asked is told
        say({"id": 0, "error": f"{type(exc).__name__}: {exc}"[:500]})
        return
    say({"id": 0, "result": {"ray": ray.__version__}})
    methods = {name: getattr(orders, name) for name in ("submit", "status", "cancel", "nodes")}

    def answer(request: dict[str, Any]) -> None:
        number, method = request.pop("id"), request.pop("method")
        try:
            say({"id": number, "result": methods[method](**request)})
        except Exception as exc:  # noqa: BLE001 - as above
            say({"id": number, "error": f"{type(exc).__name__}: {exc}"[:500]})

    with ThreadPoolExecutor(16) as pool:
        for line in sys.stdin:
            pool.submit(answer, json.loads(line))
    ray.shutdown()  # detached actors go on; a driver that is killed keeps the cluster waiting for it
    os._exit(0)


if __name__ == "__main__":
    main()
