"""What a placement becomes."""

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk_executor_ray.placement import options
from hypothesis import given
from hypothesis import strategies as st


def test_nothing_is_one_cpu():
    assert options({}) == {"num_cpus": 1.0}


def test_amounts_resources_and_labels_go_where_they_belong():
    wanted = {
        "cpus": "0.5", "gpus": "1", "memory_bytes": "1e9", "resource:at-hq": "1", "site": "hq", "x.org/rack": "r1",
    }  # fmt: skip
    assert options(wanted) == {
        "num_cpus": 0.5, "num_gpus": 1.0, "memory": 1e9,
        "resources": {"at-hq": 1.0}, "label_selector": {"site": "hq", "x.org/rack": "r1"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [("cpus", "many"), ("cpus", "-1"), ("cpus", "nan"), ("cpus", "inf"), ("resource:", "1"), ("resource:a b", "1"),
     ("", "1"), ("x" * 300, "1"), ("a key", "1"), ("site", ""), ("site", "\u202e"), ("site", "!hq"),
     ("site", "in(a,b)")],
)  # fmt: skip
def test_what_ray_could_never_meet_is_refused(key, value):
    with pytest.raises(InvalidArgument) as caught:
        options({key: value})
    assert caught.value.reason == "PLACEMENT_INVALID"


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_whatever_comes_is_options_or_a_refusal(placement):
    try:
        assert options(placement)["num_cpus"] >= 0
    except InvalidArgument as exc:
        assert exc.reason == "PLACEMENT_INVALID"
