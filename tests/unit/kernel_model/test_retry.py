"""Delays between attempts, and which failures are final."""

import pytest
from hypersdk_kernel.model.retry import Backoff, RetryPolicy
from hypothesis import given
from hypothesis import strategies as st

POLICY = RetryPolicy(max_attempts=100, initial_delay_s=1.0, multiplier=2.0, max_delay_s=300.0)
FAILURE = {"retryable": True, "reason": "TIMEOUT", "attempts": 1, "since_first_s": 10.0, "delay_s": 1.0}


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_a_delay_doubles_up_to_the_cap_and_strays_ten_percent_at_most(failed, chance):
    exact = min(2.0 ** (failed - 1), 300.0)
    assert 0.9 * exact <= POLICY.delay_s(failed, chance) <= 1.1 * exact


def test_a_peers_hint_is_never_undercut():
    assert POLICY.delay_s(1, 0.5, hint_s=1000.0) == 1000.0


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        (Backoff.LINEAR, [2, 4, 6, 8, 10, 12]),
        (Backoff.EXPONENTIAL, [2, 6, 18, 54, 100, 100]),
        (Backoff.FIBONACCI, [2, 2, 4, 6, 10, 16]),
    ],
)
def test_delays_grow_as_the_strategy_says_up_to_the_cap(strategy, delays):
    policy = RetryPolicy(10, 2.0, 3.0, 100.0, strategy=strategy, jitter=0.0)
    assert [policy.delay_s(n, 0.5) for n in range(1, 7)] == delays


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_jitter_bounds_the_stray(jitter, chance):
    policy = RetryPolicy(initial_delay_s=10.0, jitter=jitter)
    assert 10 * (1 - jitter) <= policy.delay_s(1, chance) <= 10 * (1 + jitter)


@pytest.mark.parametrize(
    ("policy", "changed"),
    [
        (RetryPolicy(), {"retryable": False}),
        (RetryPolicy(strategy=Backoff.NONE), {}),
        (RetryPolicy(max_attempts=3), {"attempts": 3}),
        (RetryPolicy(max_total_s=11.0), {"delay_s": 2.0}),
        (RetryPolicy(never=("TIME*",)), {}),
        (RetryPolicy(only=("DISK_FULL",)), {}),
    ],
)
def test_a_final_failure_is_final_and_says_why(policy, changed):
    assert policy.refusal(**FAILURE | changed)


def test_what_the_policy_does_not_refuse_is_retried():
    policy = RetryPolicy(max_attempts=2, max_total_s=11.0, only=("TIME*",), never=("DISK_FULL",))
    assert policy.refusal(**FAILURE) is None
