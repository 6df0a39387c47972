"""What an attempt's outcome means for its job."""

from dataclasses import replace

import pytest
from hypersdk.errors import DataLoss, Unavailable
from hypersdk_kernel.engine.ending import decide
from hypersdk_kernel.engine.runner import Outcome
from hypersdk_kernel.model.job import Job, JobEvent, JobState
from hypersdk_kernel.model.retry import RetryPolicy

JOB = Job("j", "u", "t", {}, JobState.RUNNING, 0.0, 0.0, attempt_count=1, retry=RetryPolicy(max_attempts=3))
RETRYABLE = Unavailable("away").to_json()
PERMANENT = DataLoss("corrupt").to_json()


def test_success_is_success_even_when_a_cancel_came_too_late():
    assert decide(replace(JOB, cancel_requested=True), Outcome("succeeded"), 0.5, 0.0)[0] is JobEvent.SUCCEED


@pytest.mark.parametrize("status", ["failed", "lost", "cancelled"])
def test_any_other_end_of_a_job_to_be_cancelled_is_its_cancellation(status):
    outcome = Outcome(status, error=RETRYABLE)
    assert decide(replace(JOB, cancel_requested=True), outcome, 0.5, 0.0)[0] is JobEvent.CANCEL


@pytest.mark.parametrize(("attempts", "event"), [(1, JobEvent.FAIL_RETRYABLE), (2, JobEvent.FAIL_RETRYABLE),
                                                 (3, JobEvent.FAIL)])  # fmt: skip
def test_a_retryable_failure_is_retried_until_the_attempts_are_used_up(attempts, event):
    decision = decide(replace(JOB, attempt_count=attempts), Outcome("lost", error=RETRYABLE), 0.5, 0.0)
    assert decision[0] is event
    assert decision[1]["reason"] == "UNAVAILABLE"


def test_a_permanent_failure_is_not_retried():
    assert decide(JOB, Outcome("failed", error=PERMANENT), 0.5, 0.0)[0] is JobEvent.FAIL


def test_a_rate_limits_hint_is_honoured():
    error = Unavailable("slow down", retry_after_s=77.0).to_json()
    assert decide(JOB, Outcome("failed", error=error), 0.5, 0.0)[2] == 77.0


def test_an_error_of_wrong_types_from_a_plugin_ends_the_job_and_breaks_nothing():
    event, error, _ = decide(JOB, Outcome("failed", error={"retryable": "yes", "retry_after_s": "soon"}), 0.5, 0.0)
    assert event is JobEvent.FAIL_RETRYABLE
    assert error["retry_after_s"] == "soon"
