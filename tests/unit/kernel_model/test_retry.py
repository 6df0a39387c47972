"""Delays between attempts."""

from hypersdk_kernel.model.retry import RetryPolicy
from hypothesis import given
from hypothesis import strategies as st

POLICY = RetryPolicy(max_attempts=100, initial_delay_s=1.0, multiplier=2.0, max_delay_s=300.0)


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_a_delay_doubles_up_to_the_cap_and_strays_ten_percent_at_most(failed, chance):
    exact = min(2.0 ** (failed - 1), 300.0)
    assert 0.9 * exact <= POLICY.delay_s(failed, chance) <= 1.1 * exact


def test_a_peers_hint_is_never_undercut():
    assert POLICY.delay_s(1, 0.5, hint_s=1000.0) == 1000.0
