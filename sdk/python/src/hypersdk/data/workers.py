"""Threads that work ahead of one consumer who takes the results in order.

Made for the copy pipeline: work that releases the GIL (reads, decompression, hashing) runs in a few threads,
at most `limit` tasks ahead, and the consumer sees each task with its result in the order of the tasks. The
standard library's executors would need a semaphore around them for the bound and cost 12 ms to import.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores this process may run on, at least 1."""
    return len(os.sched_getaffinity(0)) or 1


class _Slot(Generic[T, R]):
    __slots__ = ("error", "finished", "result", "task")

    def __init__(self, task: T, *, finished: bool) -> None:
        self.task = task
        self.finished = finished
        self.result: R | None = None
        self.error: BaseException | None = None


def in_order(
    tasks: Iterable[T],
    run: Callable[[T], R],
    *,
    threads: int,
    limit: int,
    inline: Callable[[T], bool] = lambda _: False,
) -> Generator[tuple[T, R | None], None, None]:
    """Each task with `run(task)`, in order. `tasks` is advanced in the consumer's thread, at most `limit`
    tasks ahead of what was yielded. A task for which `inline` is true needs no work: its result is None.
    Threads start with the first task that needs one. The first exception of `run` is raised at the
    consumer's next step, whichever task it belongs to; then, and when the iterator is closed, no new work
    starts and the threads have ended on return."""
    todo: SimpleQueue[_Slot[T, R] | None] = SimpleQueue()
    done: SimpleQueue[_Slot[T, R]] = SimpleQueue()
    stop = threading.Event()
    started: list[threading.Thread] = []

    def work() -> None:
        while (slot := todo.get()) is not None:
            if stop.is_set():
                continue
            try:
                slot.result = run(slot.task)
            except BaseException as exc:  # noqa: BLE001  carried to the consumer, who raises it
                slot.error = exc
            done.put(slot)

    pending: deque[_Slot[T, R]] = deque()
    source = iter(tasks)
    exhausted = False
    try:
        while True:
            while not exhausted and len(pending) < limit:
                try:
                    slot: _Slot[T, R] = _Slot(next(source), finished=False)
                except StopIteration:
                    exhausted = True
                    break
                slot.finished = inline(slot.task)
                pending.append(slot)
                if slot.finished:
                    continue
                todo.put(slot)
                if len(started) < threads:
                    started.append(threading.Thread(target=work, name=f"hypersdk-data-{len(started)}", daemon=True))
                    started[-1].start()
            if not pending:
                return
            while not pending[0].finished or not done.empty():
                finished = done.get()
                if finished.error is not None:
                    raise finished.error
                finished.finished = True
            head = pending.popleft()
            yield head.task, head.result
    finally:
        stop.set()
        for _ in started:
            todo.put(None)
        for thread in started:
            thread.join()


class BufferPool:
    """Buffers of one size, used again and again. Thread-safe. Holds as many as were out at once, no bound of
    its own: whoever takes bounds the takers."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: deque[bytearray] = deque()

    def take(self) -> bytearray:
        """A buffer of `size` bytes with any content."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self.size)

    def give(self, buffer: bytearray) -> None:
        """Back for the next taker; nobody may use it afterwards."""
        self._free.append(buffer)
