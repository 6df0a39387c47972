"""When a host that crashed may be started again. Pure: time in monotonic seconds and the random number are passed
in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """first_delay_s × 2ⁿ after the n+1st crash in a row, at most max_delay_s, each shortened by up to a half at
    random so that hosts which died together do not return together. `crashes` within `window_s` seconds quarantine
    the host for `cool_down_s`; the start after that is a trial, and one crash within `window_s` of it quarantines
    again."""

    first_delay_s: float = 0.1
    max_delay_s: float = 8.0
    crashes: int = 5
    window_s: float = 60.0
    cool_down_s: float = 30.0


class Backoff:
    """The crash record of one generation's hosts."""

    def __init__(self, policy: BackoffPolicy) -> None:
        self._policy = policy
        self._recent: deque[float] = deque(maxlen=policy.crashes)
        self._in_row = 0
        self._start_at = 0.0
        self._quarantined_until = 0.0

    def crashed(self, now: float, random: float) -> None:
        """A host died unasked, or did not come up. `random` in [0, 1)."""
        policy = self._policy
        quiet_since = max(self._recent[-1] if self._recent else 0.0, self._quarantined_until)
        if now - quiet_since > policy.window_s:
            self._in_row = 0
            self._quarantined_until = 0.0
            self._recent.clear()
        self._recent.append(now)
        self._in_row += 1
        in_window = len(self._recent) == policy.crashes and now - self._recent[0] <= policy.window_s
        if in_window or self._quarantined_until:
            self._quarantined_until = now + policy.cool_down_s
        delay = min(policy.first_delay_s * 2.0 ** min(self._in_row - 1, 30), policy.max_delay_s)
        self._start_at = now + delay * (1 - random / 2)

    def forget(self) -> None:
        """An operator has mended what made it crash: it may be started at once."""
        self._recent.clear()
        self._in_row = 0
        self._start_at = 0.0
        self._quarantined_until = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until a start is allowed; 0 at once."""
        return max(0.0, self._start_at - now)

    def quarantine_s(self, now: float) -> float:
        """Seconds for which calls are refused; 0 when it is not quarantined."""
        return min(max(0.0, self._quarantined_until - now), self._policy.cool_down_s)  # floats do not subtract exactly
