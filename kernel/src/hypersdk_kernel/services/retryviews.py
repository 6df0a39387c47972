"""Retry policies as messages."""

from __future__ import annotations

from functools import lru_cache

from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.model.retry import Backoff, RetryPolicy
from hypersdk_kernel.services.values import duration, seconds_of

_DEFAULT = RetryPolicy()
_NOTHING = pb.RetryPolicy()
_STRATEGIES = {strategy: pb.BackoffStrategy.Value(f"BACKOFF_STRATEGY_{strategy.name}") for strategy in Backoff}
_STRATEGY_OF = {value: strategy for strategy, value in _STRATEGIES.items()}


def retry_of(
    policy: pb.RetryPolicy, default: RetryPolicy = _DEFAULT, field: str = "job.retry_policy"
) -> RetryPolicy:
    """What a message asks for, `default` where it says nothing. Raises InvalidArgument (VALUE_INVALID)."""
    if policy == _NOTHING:
        return default
    if 0 < policy.multiplier < 1:
        rule = "must be 1 to 10, or 0 for the default"
        raise InvalidArgument(
            f"{field}.multiplier {rule}",
            reason="VALUE_INVALID",
            violations=(FieldViolation(f"{field}.multiplier", rule),),
        )
    initial, longest = policy.HasField("initial_delay"), policy.HasField("max_delay")
    return RetryPolicy(
        max_attempts=policy.max_attempts or default.max_attempts,
        initial_delay_s=seconds_of(policy.initial_delay) if initial else default.initial_delay_s,
        multiplier=policy.multiplier or default.multiplier,
        max_delay_s=seconds_of(policy.max_delay) if longest else default.max_delay_s,
        strategy=_STRATEGY_OF.get(policy.strategy, default.strategy),
        jitter=policy.jitter if policy.HasField("jitter") else default.jitter,
        max_total_s=seconds_of(policy.max_total) if policy.HasField("max_total") else default.max_total_s,
        only=tuple(policy.only_reasons),
        never=tuple(policy.never_reasons),
    )


@lru_cache(maxsize=256)
def retry_message(policy: RetryPolicy) -> pb.RetryPolicy:
    """To be copied, not changed: it is kept, for jobs have few different policies."""
    return pb.RetryPolicy(
        max_attempts=policy.max_attempts,
        initial_delay=duration(policy.initial_delay_s),
        multiplier=policy.multiplier,
        max_delay=duration(policy.max_delay_s),
        strategy=_STRATEGIES[policy.strategy],
        jitter=policy.jitter,
        max_total=duration(policy.max_total_s) if policy.max_total_s else None,
        only_reasons=policy.only,
        never_reasons=policy.never,
    )
