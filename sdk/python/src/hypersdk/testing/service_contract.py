"""ServiceContract: what every implementation of `hypersdk.plugin.Service` with a process of its own must keep.

Not here: what the service serves, which the plugin's own tests cover.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypersdk.plugin.service import Service, ServiceContext

READY_S = 30.0
STOP_S = 4.0


class LocalServiceContext(ServiceContext):
    """A service's context in this process.

    lines  what it logged: (level, event, fields)
    """

    def __init__(
        self, listeners: dict[str, socket.socket], address: str = "unix:/nonexistent", token: str = "t0ken-" * 7
    ) -> None:
        self.connection = "connections/test"
        self.address = address
        self.token = token
        self.listeners = listeners
        self.stopping = threading.Event()
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self.is_ready = threading.Event()

    def ready(self) -> None:
        self.is_ready.set()

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.lines.append((level, event, fields))


class RunningService:
    """A service on a thread. `start` waits until it is ready; `stop` until it has returned."""

    def __init__(self, service: Service, context: LocalServiceContext) -> None:
        self.context = context
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(service,), daemon=True)

    def start(self) -> RunningService:
        self._thread.start()
        assert self.context.is_ready.wait(READY_S), f"not ready within {READY_S} s; {self.failure!r}"
        return self

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self.context.stopping.set()
        self._thread.join(STOP_S)
        assert not self._thread.is_alive(), f"run() did not return within {STOP_S} s of `stopping`"
        assert self.failure is None, f"run() raised when it was asked to stop: {self.failure!r}"

    def _work(self, service: Service) -> None:
        try:
            service.run(self.context)
        except BaseException as exc:  # noqa: BLE001 - told by whoever looks
            self.failure = exc


class ServiceContract:
    """Subclass it and give the fixtures:

    new_service  makes a configured Service at each call
    listeners    names of the config properties marked `listen` (none: an empty tuple)
    works        (LocalServiceContext) → raises unless the service that runs in it does its work: one request, say
    """

    @pytest.fixture
    def new_service(self) -> Callable[[], Service]:
        raise NotImplementedError("give a `new_service` fixture in the subclass")

    @pytest.fixture
    def listeners(self) -> tuple[str, ...]:
        return ()

    @pytest.fixture
    def works(self) -> Callable[[LocalServiceContext], None]:
        raise NotImplementedError("give a `works` fixture in the subclass")

    @pytest.fixture
    def kernel_sockets(self, listeners: tuple[str, ...]) -> Iterator[dict[str, socket.socket]]:
        """As the kernel keeps them: bound, listening, and handed over as copies."""
        made = {name: socket.create_server(("127.0.0.1", 0), backlog=64) for name in listeners}
        yield made
        for one in made.values():
            one.close()

    def context(self, kernel_sockets: dict[str, socket.socket]) -> LocalServiceContext:
        return LocalServiceContext({name: one.dup() for name, one in kernel_sockets.items()})

    def test_it_says_that_it_is_ready_and_works(
        self, new_service: Any, works: Any, kernel_sockets: dict[str, socket.socket]
    ) -> None:
        """Mend: call `context.ready()` once the service could be used, not before."""
        running = RunningService(new_service(), self.context(kernel_sockets)).start()
        works(running.context)
        assert running.alive
        running.stop()

    def test_it_ends_when_it_is_asked_to(self, new_service: Any, kernel_sockets: dict[str, socket.socket]) -> None:
        """Mend: wait on `context.stopping`, never longer than 4 s on anything else, and return."""
        running = RunningService(new_service(), self.context(kernel_sockets)).start()
        running.stop()

    def test_it_ends_when_it_is_asked_at_once(self, new_service: Any, kernel_sockets: dict[str, socket.socket]) -> None:
        """The kernel may stop while a service starts. Mend: look at `stopping` also before the first wait."""
        context = self.context(kernel_sockets)
        context.stopping.set()
        running = RunningService(new_service(), context)
        running._thread.start()  # noqa: SLF001 - not `start`, which waits for `ready`
        running.stop()

    def test_two_run_beside_each_other(
        self, new_service: Any, works: Any, kernel_sockets: dict[str, socket.socket]
    ) -> None:
        """During a swap they do, on the same sockets. Mend: no fixed port, file or name that only one can have; use
        `context.listeners`."""
        old = RunningService(new_service(), self.context(kernel_sockets)).start()
        new = RunningService(new_service(), self.context(kernel_sockets)).start()
        works(new.context)
        old.stop()
        works(new.context)
        new.stop()

    def test_it_can_be_started_again(
        self, new_service: Any, works: Any, kernel_sockets: dict[str, socket.socket]
    ) -> None:
        """After a crash it is, on the same sockets. Mend: let go of everything in `run`'s end; leave nothing on disk
        that keeps the next one from starting."""
        for _ in range(3):
            running = RunningService(new_service(), self.context(kernel_sockets)).start()
            works(running.context)
            running.stop()

    def test_a_kernel_that_does_not_answer_ends_nothing(
        self, new_service: Any, kernel_sockets: dict[str, socket.socket]
    ) -> None:
        """The daemon may be busy or restarting its listener. Mend: errors of the API are an answer to whoever asked,
        or a retry, never the end of `run`."""
        running = RunningService(new_service(), self.context(kernel_sockets)).start()
        running.context.stopping.wait(0.2)
        assert running.alive
        running.stop()

    def test_the_token_is_not_logged(
        self, new_service: Any, works: Any, kernel_sockets: dict[str, socket.socket]
    ) -> None:
        """Mend: log names and counts, not headers."""
        running = RunningService(new_service(), self.context(kernel_sockets)).start()
        works(running.context)
        running.stop()
        assert running.context.token not in repr(running.context.lines)
