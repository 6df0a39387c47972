"""Running a stateful model to its verdict."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine

_TRIES = 4


def run(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """Raises what the machine's rules and invariants raise. A failure is not shrunk, which takes minutes: its steps are
    printed as they are.

    Where real threads and disks are behind a machine, the same steps may be offered other choices the next time (which
    of two ready jobs runs). Hypothesis refuses to go on then; nothing was found wrong, so it is begun anew.
    """
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )  # fmt: skip
    for left in reversed(range(_TRIES)):
        try:
            case().runTest()
            return
        except FlakyStrategyDefinition:
            if not left:
                raise
