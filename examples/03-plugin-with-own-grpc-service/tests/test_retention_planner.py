"""The planner by itself: JSON in, JSON out, no daemon."""

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk.testing.manifest_contract import ManifestContract
from retention_planner import Planner


class TestManifest(ManifestContract):
    distribution_name = "retention-planner"
    package = "retention_planner"


def kept(times, **keep):
    answer = Planner().plan_retention({"times": times, **keep})
    return {d["time"][:16]: d["reasons"] for d in answer["decisions"] if d["keep"]}


def test_the_newest_of_each_day_is_kept():
    times = ["2026-03-01T02:00:00Z", "2026-03-01T14:00:00Z", "2026-03-02T02:00:00Z"]
    assert kept(times, keep_daily=2) == {"2026-03-01T14:00": ["daily"], "2026-03-02T02:00": ["daily"]}


def test_weeks_are_iso_weeks_also_over_new_year():
    times = ["2025-12-28T00:00:00Z", "2025-12-29T00:00:00Z", "2026-01-01T00:00:00Z"]
    assert kept(times, keep_weekly=1) == {"2026-01-01T00:00": ["weekly"]}
    assert set(kept(times, keep_weekly=2)) == {"2025-12-28T00:00", "2026-01-01T00:00"}


def test_one_backup_may_be_kept_for_several_reasons():
    assert kept(["2026-03-01T00:00:00Z"], keep_daily=1, keep_monthly=1) == {"2026-03-01T00:00": ["daily", "monthly"]}


def test_nothing_is_kept_when_nothing_is_asked_for():
    assert kept(["2026-03-01T00:00:00Z"]) == {}


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidArgument):
        Planner().plan_retention({"times": ["1969-12-31T23:59:59Z"]})
