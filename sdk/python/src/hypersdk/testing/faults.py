"""SyscallFaults: the n-th call of the operating system fails, for n = 1, 2, … until everything was tried.

For plugins that work on files in this process. One that talks to a platform gives its suite an injector of its own with
the same shape: a function of a number that makes a context manager, which has `calls` afterwards.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

_FUNCTIONS = (
    "open", "read", "write", "pread", "preadv", "pwrite", "fsync", "fdatasync", "ftruncate", "rename", "replace",
    "link", "unlink", "mkdir", "scandir", "listdir",
)  # fmt: skip


class Injection(Protocol):
    """What an injector's context manager gives: how many calls there were."""

    calls: int


Injector = Callable[[int], AbstractContextManager[Injection]]


class SyscallFaults:
    """While it is entered, call number `at` (from 1; 0: none) of this thread's file functions raises `number`."""

    def __init__(self, at: int, number: int = errno.EIO) -> None:
        self.calls = 0
        self._at = at
        self._number = number
        self._thread = 0
        self._kept: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        for module, names in ((os, _FUNCTIONS), (io, ("open",)), (builtins, ("open",))):
            for name in names:
                function = getattr(module, name)
                self._kept.append((module, name, function))
                setattr(module, name, self._counted(function))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module, name, function in self._kept:
            setattr(module, name, function)
        self._kept.clear()

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kw: Any) -> Any:
            if threading.get_ident() == self._thread:
                self.calls += 1
                if self.calls == self._at:
                    raise OSError(self._number, os.strerror(self._number))
            return function(*args, **kw)

        return call


def spread(count: int, most: int = 30) -> list[int]:
    """1 to `count`, or `most` of them, first and last included."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({1 + (count - 1) * n // (most - 1) for n in range(most)})
