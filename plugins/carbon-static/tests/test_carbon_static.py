"""carbon/static keeps the contract, and finds the best hours of its table."""

import pytest
from hypersdk.plugin.carbon import CarbonSource, DelayRequest, Intensity
from hypersdk.testing import CarbonSourceContract, ManifestContract
from hypersdk_carbon_static import StaticCarbon, read_table
from hypothesis import given, settings
from hypothesis import strategies as st

DAY, HOUR = 86400.0, 3600.0
MIDNIGHT = 1_800_057_600.0  # 2027-01-16T00:00:00Z


class TestStaticCarbon(CarbonSourceContract):
    @pytest.fixture
    def source(self):
        return StaticCarbon()


class TestManifest(ManifestContract):
    distribution_name = "hypersdk-carbon-static"
    package = "hypersdk_carbon_static"


def ask(source, hour, wait_h, expected_h, region="sample-solar"):
    begin = MIDNIGHT + hour * HOUR
    request = DelayRequest("jobs/x", "export", region, begin, begin + wait_h * HOUR, expected_h * HOUR)
    advice = source.delay(request)
    return (advice.start_s - MIDNIGHT) / HOUR, advice.reason


def test_a_job_of_the_evening_waits_for_noon():
    start, reason = ask(StaticCarbon(), 20, 24, 1)
    assert start == 24 + 12
    assert reason == "sample-solar has 125 gCO2e/kWh from 2027-01-17 12:00Z instead of 450 now (-72%)"


def test_a_long_job_gets_the_best_stretch_and_not_the_best_hour():
    assert ask(StaticCarbon(), 20, 24, 3)[0] == 24 + 11


def test_a_job_that_may_not_wait_that_long_takes_the_best_it_can_have():
    assert ask(StaticCarbon(), 20, 12, 1)[0] == 24 + 8


def test_waiting_for_nothing_is_not_advised():
    assert ask(StaticCarbon(), 20, 24, 1, "sample-coal") == (20, "sample-coal is at its best now, at 820 gCO2e/kWh")
    start, reason = ask(StaticCarbon(), 10, 5, 1, "sample-wind")
    assert (start, reason) == (10, "waiting would save 2% of 255 gCO2e/kWh in sample-wind")


class Steps(CarbonSource):
    min_saving = 0.0

    def __init__(self, values):
        self.values = values

    def regions(self):
        return ["r"]

    def forecast(self, region, start_s, end_s):
        return [Intensity(i * 10.0, i * 10.0 + 10, v) for i, v in enumerate(self.values)]


@settings(deadline=None)
@given(
    values=st.lists(st.integers(0, 50), min_size=4, max_size=12), earliest=st.integers(0, 20),
    wait=st.integers(0, 60), length=st.integers(1, 25),
)  # fmt: skip
def test_no_start_is_better_than_the_one_advised(values, earliest, wait, length):
    """Against trying every second."""

    def mean(start):
        if start + length > len(values) * 10:
            return None
        return sum(values[second // 10] for second in range(start, start + length)) / length

    advice = Steps(values).delay(DelayRequest("jobs/x", "t", "r", earliest, earliest + wait, length))
    means = {start: m for start in range(earliest, earliest + wait + 1) if (m := mean(start)) is not None}
    if earliest not in means:
        assert advice.start_s == earliest
        return
    best = min(means.values())
    assert mean(int(advice.start_s)) == pytest.approx(best)
    assert advice.start_s == int(advice.start_s)


@pytest.mark.parametrize(
    "text", ["region,h\nx,1", "region\nx," + "1," * 23 + "-1", "region\nx," + ",".join("1" * 24) + "\nx,1"]
)
def test_a_wrong_table_is_named(text):
    with pytest.raises(ValueError, match="region x"):
        read_table(text)
