"""When a failed attempt is followed by another. Pure: the random number is passed in."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache


class Backoff(enum.StrEnum):
    """How the delays grow: `base × n`, `base × multiplierⁿ⁻¹`, `base × Fₙ` (1, 1, 2, 3, 5 …), or no second attempt."""

    NONE = "none"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which failures are followed by another attempt, how often, and how long after.

    max_attempts     attempts in all, 1–100
    initial_delay_s  the base: before the second attempt
    multiplier       exponential: each further delay is that many times longer, 1–10
    max_delay_s      no delay is longer
    strategy         how the delays grow
    jitter           share of a delay by which it strays to either side, 0–1, so that jobs which failed together do not
                     return together
    max_total_s      no attempt starts later than that after the first; 0: no such end
    only             reasons of errors that are retried; empty: all that are retryable. One may end in `*`
    never            reasons that are not, whatever else says so
    """

    max_attempts: int = 3
    initial_delay_s: float = 1.0
    multiplier: float = 2.0
    max_delay_s: float = 300.0
    strategy: Backoff = Backoff.EXPONENTIAL
    jitter: float = 0.1
    max_total_s: float = 0.0
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def delay_s(self, failed_attempts: int, random: float, hint_s: float | None = None) -> float:
        """Seconds until the next attempt after `failed_attempts` (≥ 1). `random` in [0, 1) places it within the jitter.
        A peer's `hint_s` is a lower bound, even above the cap."""
        delay = min(self.initial_delay_s * self._growth(failed_attempts), self.max_delay_s)
        return max(delay * (1 - self.jitter + 2 * self.jitter * random), hint_s or 0.0)

    def _growth(self, failed_attempts: int) -> float:
        if self.strategy is Backoff.LINEAR:
            return float(failed_attempts)
        if self.strategy is Backoff.FIBONACCI:
            return float(_fibonacci(min(failed_attempts, 100)))
        return float(self.multiplier ** min(failed_attempts - 1, 64))

    def refusal(
        self, *, retryable: bool, reason: str, attempts: int, since_first_s: float, delay_s: float
    ) -> str | None:
        """Why a failure is final, in words; None when another attempt follows `delay_s` later. `attempts`: made so
        far. `since_first_s`: since the first one started."""
        if not retryable:
            return "the error is permanent"
        if self.strategy is Backoff.NONE:
            return "its retry policy is none"
        if _names(self.never, reason):
            return f"its retry policy never retries {reason}"
        if self.only and not _names(self.only, reason):
            return f"its retry policy retries only {', '.join(self.only)}"
        if attempts >= self.max_attempts:
            return f"it has had all {self.max_attempts} attempts"
        if self.max_total_s and since_first_s + delay_s > self.max_total_s:
            return f"the next attempt would start later than {self.max_total_s:g} s after the first"
        return None


def _names(patterns: tuple[str, ...], reason: str) -> bool:
    return any(reason.startswith(p[:-1]) if p.endswith("*") else reason == p for p in patterns)


@lru_cache(maxsize=128)
def _fibonacci(n: int) -> int:
    low, high = 0, 1
    for _ in range(n):
        low, high = high, low + high
    return low
