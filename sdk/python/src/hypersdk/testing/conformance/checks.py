"""A check: an id, a sentence that says what it means, how to mend a failure, and a function that judges.

The function returns when all is well, raises Failed (or AssertionError) with what it saw, Warned for what is bad style
and breaks nothing, Skipped with what was missing.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_MOST_DETAIL = 2000


class Status(enum.StrEnum):
    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


class Failed(Exception):
    """The plugin does not keep what the check says."""


class Warned(Exception):
    """It works, and its users will be sorry."""


class Skipped(Exception):
    """It cannot be judged here; says what was missing."""


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """`judge` is given what its group works on (a Project, a fresh host, …)."""

    id: str
    meaning: str
    mend: str
    judge: Callable[[T], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one check. `detail`: what was seen, empty when it passed. `seconds`: how long it took."""

    id: str
    status: Status
    meaning: str
    mend: str
    detail: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id, "status": str(self.status), "meaning": self.meaning, "mend": self.mend,
            "detail": self.detail, "seconds": round(self.seconds, 3),
        }  # fmt: skip


@dataclass
class Report:
    """All outcomes, in the order in which they came about."""

    plugin: str
    version: str
    path: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(outcome.status is not Status.FAILED for outcome in self.outcomes)

    def counts(self) -> dict[str, int]:
        return {str(s): sum(o.status is s for o in self.outcomes) for s in Status}

    def to_json(self) -> dict[str, Any]:
        return {
            "plugin": self.plugin, "version": self.version, "path": self.path, "ok": self.ok,
            "counts": self.counts(), "checks": [outcome.to_json() for outcome in self.outcomes],
        }  # fmt: skip


class Group(Generic[T]):
    """Checks of one kind, in the order in which they are defined."""

    def __init__(self) -> None:
        self.checks: list[Check[T]] = []

    def check(self, check_id: str, meaning: str, *, mend: str) -> Callable[[Callable[[T], None]], Callable[[T], None]]:
        def add(judge: Callable[[T], None]) -> Callable[[T], None]:
            self.checks.append(Check(check_id, meaning, mend, judge))
            return judge

        return add


def judge(check: Check[T], subject: T) -> Outcome:
    """The outcome of one check. Any other exception of it is a failure too: it says that the plugin did something that
    nobody thought of."""
    start = time.monotonic()
    status, detail = Status.PASSED, ""
    try:
        check.judge(subject)
    except Skipped as exc:
        status, detail = Status.SKIPPED, str(exc)
    except Warned as exc:
        status, detail = Status.WARNED, str(exc)
    except (Failed, AssertionError) as exc:
        status, detail = Status.FAILED, str(exc) or "the check's condition does not hold"
    except Exception as exc:  # noqa: BLE001 - one check never stops the others; its text is the finding
        status, detail = Status.FAILED, f"{type(exc).__name__}: {exc}"
    seconds = time.monotonic() - start
    return Outcome(check.id, status, check.meaning, check.mend, detail[:_MOST_DETAIL], seconds)


def skipped(checks: Iterable[Check[Any]], why: str) -> list[Outcome]:
    """All of them, not run."""
    return [Outcome(c.id, Status.SKIPPED, c.meaning, c.mend, why) for c in checks]
