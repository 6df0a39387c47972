"""CarbonSourceContract: what every implementation of `hypersdk.plugin.CarbonSource` must keep.

Not here: whether the numbers are right, which only their source can tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from hypersdk.errors import InvalidArgument
from hypersdk.plugin.carbon import MAX_POINTS, MAX_REASON, CarbonSource, DelayRequest, Intensity

HOUR, DAY = 3600.0, 86400.0


class CarbonSourceContract:
    """Subclass it and give one fixture; override `now_s` for a source that knows certain days only.

    source    a new CarbonSource
    now_s     a moment from which it can tell three days ahead, seconds since the epoch
    """

    @pytest.fixture
    def source(self) -> CarbonSource:
        raise NotImplementedError("give a `source` fixture in the subclass")

    @pytest.fixture
    def now_s(self) -> float:
        return 1_800_000_123.0

    def test_it_knows_regions(self, source: CarbonSource) -> None:
        """Mend: `regions` returns at least one name, sorted, each once."""
        regions = list(source.regions())
        assert regions
        assert regions == sorted(set(regions))

    def test_a_forecast_covers_what_was_asked_in_order(self, source: CarbonSource, now_s: float) -> None:
        """Mend: no gap, no overlap, from the beginning on; values are finite and not negative."""
        for region in source.regions():
            points = source.forecast(region, now_s, now_s + DAY)
            assert 0 < len(points) <= MAX_POINTS
            assert points[0].start_s <= now_s
            assert all(math.isfinite(p.value) and p.value >= 0 and p.start_s < p.end_s for p in points)
            assert all(a.end_s == b.start_s for a, b in pairwise(points))

    def test_asking_again_gives_the_same(self, source: CarbonSource, now_s: float) -> None:
        """A kernel that was killed asks again. Mend: no randomness; the same hour has the same value."""
        region = source.regions()[0]
        assert list(source.forecast(region, now_s, now_s + DAY)) == list(source.forecast(region, now_s, now_s + DAY))

    @pytest.mark.parametrize("region", ["", "no-such-region", "../x", "x" * 64, "\u202e"])
    def test_a_region_it_does_not_know_is_refused(self, source: CarbonSource, now_s: float, region: str) -> None:
        """Mend: raise `unknown_region(region, self.regions())`."""
        with pytest.raises(InvalidArgument) as caught:
            source.forecast(region, now_s, now_s + HOUR)
        assert caught.value.reason == "CARBON_REGION_UNKNOWN"

    @pytest.mark.parametrize("wait_s", [0.0, 60.0, HOUR, 8 * HOUR, DAY, 2 * DAY])
    @pytest.mark.parametrize("expected_s", [0.0, 600.0, HOUR, 5 * HOUR])
    def test_the_start_is_within_bounds_and_explained(
        self, source: CarbonSource, now_s: float, wait_s: float, expected_s: float
    ) -> None:
        """A job that starts too late misses its deadline. Mend: earliest_s ≤ start_s ≤ latest_s, always; the reason is
        one sentence that says what decided."""
        for region in source.regions():
            advice = source.delay(_request(region, now_s, wait_s, expected_s))
            assert now_s <= advice.start_s <= now_s + wait_s
            assert 0 < len(advice.reason) <= MAX_REASON
            assert advice.reason.isprintable()

    def test_waiting_never_makes_it_worse(self, source: CarbonSource, now_s: float) -> None:
        """By the source's own forecast. Mend: compare with starting at once, and do not wait for nothing."""
        for region in source.regions():
            for hour in range(0, 24, 3):
                begin = now_s + hour * HOUR
                advice = source.delay(_request(region, begin, DAY, HOUR))
                points = list(source.forecast(region, begin, begin + 2 * DAY))
                assert _mean(points, advice.start_s) <= _mean(points, begin) + 1e-6

    def test_many_ask_at_once(self, source: CarbonSource, now_s: float) -> None:
        """The kernel does so when the manifest says parallel. Mend: no shared state without a lock."""
        request = _request(source.regions()[0], now_s, DAY, HOUR)
        with ThreadPoolExecutor(8) as pool:
            assert len({pool.submit(source.delay, request).result() for _ in range(32)}) == 1


def _request(region: str, now_s: float, wait_s: float, expected_s: float) -> DelayRequest:
    return DelayRequest("jobs/x", "export", region, now_s, now_s + wait_s, expected_s, {"env": "lab"})


def _mean(points: Sequence[Intensity], start_s: float) -> float:
    """Of the hour that begins at `start_s`."""
    end_s = start_s + HOUR
    parts = [(max(0.0, min(p.end_s, end_s) - max(p.start_s, start_s)), p.value) for p in points]
    return sum(length * value for length, value in parts) / sum(length for length, _ in parts)
