"""Probation: a fresh generation serves, and the one before it stands by until the fresh one has proved itself.

    on probation ──time over, or another swap──▶ passed
         │
         └──a crash, or too many undeclared errors──▶ failed

A canary is on probation as long as it is one; the active generation stands by for it.

Not here: the time, and what follows from the verdict (swap); who is asked instead (supervisor).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypersdk.errors import DeadlineExceeded, HyperError, Internal, Unavailable

from hypersdk_kernel.model.plugin import ActiveComponent, Generation


@dataclass(frozen=True, slots=True)
class ProbationPolicy:
    """seconds      how long it lasts; 0: there is none
    errors, share   so many undeclared errors, and more than this share of the calls, fail it
    window          of so many calls the first half is forgotten: what was good an hour ago excuses nothing now
    slow_s          a call that was not answered in time speaks against the generation if it had at least so long:
                    a client that gives a millisecond proves nothing
    fresh_share     of its time, what an idempotent call gives the fresh generation before it is repeated
    """

    seconds: float = 30.0
    errors: int = 5
    share: float = 0.2
    window: int = 1000
    slow_s: float = 1.0
    fresh_share: float = 0.5


class Probation:
    """`fresh` under observation. `on_failed` is called once, at the moment of the verdict, with the cause."""

    def __init__(
        self,
        fresh: Generation,
        previous: Generation,
        policy: ProbationPolicy,
        on_failed: Callable[[Probation, str], None],
    ) -> None:
        self.fresh = fresh
        self.previous = previous
        self.policy = policy
        self.calls = 0
        self.errors = 0
        self.failed = False
        self._passed = False
        self._on_failed = on_failed

    def spare(self, component: ActiveComponent) -> ActiveComponent | None:
        """Who answers in the place of `component` of the fresh generation; None when nobody stands by."""
        manifest = self.previous.manifest
        if self._passed or manifest is None or component.name not in manifest.components:
            return None
        return ActiveComponent(manifest.components[component.name], self.previous)

    def passed(self) -> None:
        """It is over, and was good. The generation before it need not stand by any longer."""
        self._passed = True

    def answered(self) -> None:
        """A call went as the plugin's contract has it."""
        self._count(0)

    def erred(self, component: ActiveComponent, method: str, error: HyperError) -> None:
        """A call ended with an error that speaks against the generation."""
        self._count(1)
        if self.errors >= self.policy.errors and self.errors > self.policy.share * self.calls:
            self._fail(
                f"{self.errors} of {self.calls} calls ended with errors that its manifest does not declare; the last: "
                f"{component.name} {method}: {error.reason}: {error.message}"
            )

    def crashed(self, cause: str) -> None:
        """Its host died, or could not be started again."""
        self._fail(f"its host died: {cause}" if cause else "its host died")

    def _count(self, errors: int) -> None:
        self.calls += 1
        self.errors += errors
        if self.calls >= self.policy.window:
            self.calls //= 2
            self.errors //= 2

    def _fail(self, cause: str) -> None:
        if not (self.failed or self._passed):
            self.failed = True
            self._on_failed(self, cause)


def speaks_against(component: ActiveComponent, error: HyperError, took_s: float, policy: ProbationPolicy) -> bool:
    """Whether `error`, after `took_s` seconds, is the plugin's fault: a defect, a crash or a hang, and none of those
    that its manifest declares. What the caller or the platform did wrong (InvalidArgument, NotFound, …) is not."""
    if error.reason in component.manifest.errors:
        return False
    if isinstance(error, DeadlineExceeded):
        return took_s >= policy.slow_s
    return isinstance(error, Internal | Unavailable)
