"""When a failed attempt is followed by another. Pure: the random number is passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential with a cap and jitter.

    max_attempts     attempts in all, 1–100
    initial_delay_s  before the second attempt
    multiplier       each further delay is that many times longer, 1–10
    max_delay_s      no delay is longer
    """

    max_attempts: int = 3
    initial_delay_s: float = 1.0
    multiplier: float = 2.0
    max_delay_s: float = 300.0

    def delay_s(self, failed_attempts: int, random: float, hint_s: float | None = None) -> float:
        """Seconds until the next attempt after `failed_attempts` (≥ 1). `random` in [0, 1) spreads it over ±10 %, so
        that jobs which failed together do not return together. A peer's `hint_s` is a lower bound, even above the
        cap."""
        exponent = min(failed_attempts - 1, 64)
        delay = min(self.initial_delay_s * self.multiplier**exponent, self.max_delay_s)
        return max(delay * (0.9 + 0.2 * random), hint_s or 0.0)
