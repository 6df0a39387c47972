"""A job's leave to start later than it could, when a carbon or price source advises it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_EXPECTED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Delay:
    """source       id of the `carbon` component that is asked
    region       where the job draws its electricity, in the source's own names
    max_delay_s  it starts at most so much later than it could
    expected_s   how long it is expected to run
    """

    source: str
    region: str
    max_delay_s: float
    expected_s: float = DEFAULT_EXPECTED_S

    def latest(self, earliest: float, deadline: float | None) -> float:
        """The last moment at which it may start, so that it can end by its deadline; never before `earliest`."""
        latest = earliest + self.max_delay_s
        if deadline is not None:
            latest = min(latest, deadline - self.expected_s)
        return max(latest, earliest)
