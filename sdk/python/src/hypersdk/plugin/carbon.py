"""CarbonSource: the contract of `hypersdk.carbon` plugins: when a job that may wait is best started.

A source knows an *intensity* for regions and times: grams of CO2 equivalent a kilowatt hour, or, for a source of
prices, money a kilowatt hour or an instance hour. Lower is better; nothing else about the number matters to the kernel.
Whoever subclasses CarbonSource gives `regions` and `forecast`; `delay` finds the best start by them, and is
overridden only by a source that is told the answer by somebody else.

An instance has no connection. Its life: created without arguments, then asked, from several threads at once when the
manifest says `parallel`. The kernel asks once for each job, before its first attempt, with a limit of some seconds; a
source that raises or is late costs the job nothing: it starts at once, and the failure is told.

The kernel never starts a job later than `latest_s`, whatever is advised.

Not here: whether a job may wait at all (the job says so), windows, deadlines (in `latest_s` already).
"""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypersdk.errors import FieldViolation, InvalidArgument

MAX_POINTS = 20_000
MAX_REASON = 300
"""Characters of a reason; people read it in `hyperctl job explain`."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """`value` (0 or more, in the source's unit) holds from `start_s` to `end_s`, seconds since the epoch."""

    start_s: float
    end_s: float
    value: float


@dataclass(frozen=True, slots=True)
class DelayRequest:
    """What the kernel tells of a job: no spec, no secrets.

    job, task, labels  which job it is
    region             one of `regions`
    earliest_s         it could start then, seconds since the epoch
    latest_s           it has to start by then
    expected_s         how long it is expected to run, seconds
    """

    job: str
    task: str
    region: str
    earliest_s: float
    latest_s: float
    expected_s: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartAdvice:
    """Start at `start_s`, because of `reason`: one sentence for a person, with the numbers that decided."""

    start_s: float
    reason: str


class CarbonSource(abc.ABC):
    """One source of intensities.

    unit          of its values, as people write it
    min_saving    the least part of the intensity that a delay must save to be worth it, 0 to 1
    """

    unit: str = "gCO2e/kWh"
    min_saving: float = 0.05

    @abc.abstractmethod
    def regions(self) -> Sequence[str]:
        """(C) The regions it knows, in its own names, sorted. At least one."""

    @abc.abstractmethod
    def forecast(self, region: str, start_s: float, end_s: float) -> Sequence[Intensity]:
        """(C) Intensities that cover [start_s, end_s) without gap or overlap, in order; fewer where it knows less: the
        end may be missing, not the beginning. Raises InvalidArgument (CARBON_REGION_UNKNOWN), and Unavailable for a
        source that is away."""

    def delay(self, request: DelayRequest) -> StartAdvice:
        """(C) The start in [earliest_s, latest_s] with the lowest mean intensity over `expected_s`; the earliest of
        several, and `earliest_s` itself when waiting saves less than `min_saving`."""
        points = list(self.forecast(request.region, request.earliest_s, request.latest_s + request.expected_s))
        now = _mean(points, request.earliest_s, request.expected_s)
        if now is None:
            return StartAdvice(request.earliest_s, f"nothing is known of region {request.region} at this time")
        best_s, best = request.earliest_s, now
        for start_s in _candidates(points, request):
            mean = _mean(points, start_s, request.expected_s)
            if mean is not None and mean < best - 1e-9:
                best_s, best = start_s, mean
        if best_s == request.earliest_s:
            return StartAdvice(best_s, f"{request.region} is at its best now, at {now:.4g} {self.unit}")
        saved = 1 - best / now
        if saved < self.min_saving:
            return StartAdvice(
                request.earliest_s, f"waiting would save {saved:.0%} of {now:.4g} {self.unit} in {request.region}"
            )
        return StartAdvice(
            best_s,
            f"{request.region} has {best:.4g} {self.unit} from {_time(best_s)} instead of {now:.4g} now ({-saved:.0%})",
        )


def unknown_region(region: str, regions: Sequence[str]) -> InvalidArgument:
    """What `forecast` raises."""
    rule = f"{region[:64]!r} is none of {', '.join(regions)}"
    return InvalidArgument(
        f"region {rule}", reason="CARBON_REGION_UNKNOWN", violations=(FieldViolation("region", rule),)
    )


def _candidates(points: Sequence[Intensity], request: DelayRequest) -> list[float]:
    """Where the mean of a step function can be lowest: a window begins or ends where a step does, or at a bound."""
    edges = {point.start_s for point in points} | {point.end_s for point in points}
    starts = edges | {edge - request.expected_s for edge in edges} | {request.latest_s}
    return sorted(start for start in starts if request.earliest_s < start <= request.latest_s)


def _mean(points: Sequence[Intensity], start_s: float, length_s: float) -> float | None:
    """Over [start_s, start_s + length_s); None where a part of it is not known."""
    end_s = start_s + max(length_s, 1.0)
    total = covered = 0.0
    for point in points:
        overlap = min(point.end_s, end_s) - max(point.start_s, start_s)
        if overlap > 0:
            total += overlap * point.value
            covered += overlap
    return total / covered if covered >= end_s - start_s - 1e-3 else None


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%MZ")
