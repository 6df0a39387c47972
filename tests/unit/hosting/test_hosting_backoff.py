"""When a crashed host may start again."""

from hypersdk_kernel.hosting.backoff import Backoff, BackoffPolicy
from hypothesis import given, settings
from hypothesis import strategies as st


def test_the_first_start_is_at_once_and_never_quarantined():
    backoff = Backoff(BackoffPolicy())
    assert backoff.wait_s(5.0) == 0
    assert backoff.quarantine_s(5.0) == 0


def test_delays_double_up_to_the_cap_while_crashes_follow_each_other():
    backoff, now, delays = Backoff(BackoffPolicy()), 1000.0, []
    for _ in range(10):
        backoff.crashed(now, random=0.0)
        delays.append(round(backoff.wait_s(now), 3))
        now += 20.0  # three in a minute: no quarantine
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0, 8.0]
    assert backoff.quarantine_s(now) == 0


def test_a_quiet_minute_forgets_earlier_crashes():
    backoff = Backoff(BackoffPolicy())
    for now in (1000.0, 1001.0, 1002.0, 1003.0):
        backoff.crashed(now, random=0.0)
    backoff.crashed(1064.0, random=0.0)
    assert round(backoff.wait_s(1064.0), 6) == 0.1
    assert backoff.quarantine_s(1064.0) == 0


def test_the_fifth_crash_in_a_minute_quarantines_and_time_lets_out():
    backoff = Backoff(BackoffPolicy())
    for now in (1000.0, 1010.0, 1020.0, 1030.0):
        backoff.crashed(now, random=0.0)
        assert backoff.quarantine_s(now) == 0
    backoff.crashed(1059.0, random=0.0)
    assert backoff.quarantine_s(1059.0) == 30.0
    assert backoff.quarantine_s(1090.0) == 0


def test_one_crash_of_a_host_on_trial_quarantines_again():
    backoff = Backoff(BackoffPolicy())
    for now in range(1000, 1005):
        backoff.crashed(float(now), random=0.0)
    backoff.crashed(1040.0, random=0.0)
    assert backoff.quarantine_s(1040.0) == 30.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 0.999)), max_size=40))
def test_no_wait_is_longer_than_the_cap_and_quarantine_always_ends(crashes):
    policy = BackoffPolicy()
    backoff, now = Backoff(policy), 1000.0
    for gap, random in crashes:
        now += gap
        backoff.crashed(now, random)
        assert policy.first_delay_s / 2 <= backoff.wait_s(now) <= policy.max_delay_s
        assert backoff.quarantine_s(now) <= policy.cool_down_s
    assert backoff.wait_s(now + policy.max_delay_s) == 0
    assert backoff.quarantine_s(now + policy.cool_down_s) == 0
