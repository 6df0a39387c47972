"""Bandwidth shared out: fair, within every budget, and nothing left lying while somebody could use it."""

import pytest
from hypersdk_kernel.engine.bandwidth import Claim, shares
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20


@pytest.mark.parametrize(
    ("claims", "budgets", "wanted"),
    [
        ({"a": Claim(0, ()), "b": Claim(5, ())}, {}, {"a": 0, "b": 5}),
        ({"a": Claim(0, ("x",)), "b": Claim(0, ("x",))}, {"x": 100}, {"a": 50, "b": 50}),
        ({"a": Claim(20, ("x",)), "b": Claim(0, ("x",))}, {"x": 100}, {"a": 20, "b": 80}),
        ({"a": Claim(0, ("x", "y")), "b": Claim(0, ("x",))}, {"x": 100, "y": 10}, {"a": 10, "b": 90}),
        ({"a": Claim(0, ("gone",))}, {}, {"a": 0}),
    ],
)
def test_each_gets_a_fair_share_of_every_budget_it_is_in(claims, budgets, wanted):
    assert shares(claims, budgets) == wanted


budgets_of = st.dictionaries(st.sampled_from("xyz"), st.integers(1000, 100 * MIB), max_size=3)
claims_of = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(Claim, st.one_of(st.just(0), st.integers(1000, 10 * MIB)), st.lists(st.sampled_from("xyz")).map(tuple)),
    max_size=6,
)


@given(claims_of, budgets_of)
def test_no_budget_is_exceeded_no_own_limit_either_and_what_is_left_nobody_could_use(claims, budgets):
    given_ = shares(claims, budgets)
    assert given_.keys() == claims.keys()
    spent = {
        key: sum(rate for job, rate in given_.items() if key in claims[job].budgets) for key in budgets
    }
    slack = len(claims) + 1  # rounding
    for key, budget in budgets.items():
        assert spent[key] <= budget + slack
    for job, rate in given_.items():
        own, keys = claims[job].own, [key for key in claims[job].budgets if key in budgets]
        if not own and not keys:
            assert rate == 0
            continue
        assert rate >= 1
        assert not own or rate <= own + 1
        full = [key for key in keys if spent[key] >= budgets[key] * 0.999 - slack]
        assert full or (own and rate >= own - 1), "it could have had more"
