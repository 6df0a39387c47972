"""What a job waits for in other jobs, and what becomes of it when that cannot come true. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from hypersdk.errors import InvalidArgument

from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind

if TYPE_CHECKING:
    from hypersdk_kernel.model.job import Job

K = TypeVar("K", bound=Hashable)


class Need(enum.StrEnum):
    """How the other job must have ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FINISHED = "finished"


class Unmet(enum.StrEnum):
    """What becomes of a job one of whose dependencies ended as it should not have."""

    CANCEL = "cancel"
    FAIL = "fail"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Dependency:
    """The job waits until `job_id` has ended as `need` says, and, if there is a `condition` (AIP-160 over `result`,
    `state` and `attempt_count`, as in `result.verified = true AND result.bytes > 0`), that is true of it."""

    job_id: str
    need: Need = Need.SUCCEEDED
    condition: str = ""


class Verdict(enum.Enum):
    WAIT = "wait"
    MET = "met"
    UNMET = "unmet"


def judge(dependency: Dependency, job: Job | None) -> Verdict:
    """How things stand with a dependency on `job`, which is None when there is no such job (any more)."""
    if job is None:
        return Verdict.UNMET
    if not job.terminal:
        return Verdict.WAIT
    ended = {Need.SUCCEEDED: "succeeded", Need.FAILED: "failed", Need.FINISHED: job.state.value}[dependency.need]
    met = job.state.value == ended and (not dependency.condition or compile_condition(dependency.condition)(job))
    return Verdict.MET if met else Verdict.UNMET


def _state(job: Any) -> Any:
    return job.state.value


def _result(job: Any) -> Any:
    return job.result


def _attempts(job: Any) -> Any:
    return job.attempt_count


_FIELDS: Mapping[str, Field] = {
    "state": Field(Kind.ENUM, _state, values=("succeeded", "failed", "cancelled")),
    "result": Field(Kind.JSON, _result),
    "attempt_count": Field(Kind.NUMBER, _attempts),
}


@lru_cache(maxsize=4096)
def compile_condition(text: str) -> Callable[[Any], bool]:
    """The condition as a predicate of a Job. Raises InvalidArgument (FILTER_INVALID)."""
    return parse(text).predicate(_FIELDS)


def find_cycle(edges: Mapping[K, Iterable[K]]) -> list[K]:
    """A cycle of `edges` (node → the nodes it waits for), its first node repeated at the end; empty when there is
    none. Iterative, O(nodes + edges): a chain of 10,000 jobs is no recursion of 10,000 frames."""
    done: set[K] = set()
    for root in edges:
        path: list[K] = []
        on_path: set[K] = set()
        stack: list[tuple[K, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(node)
                done.add(node)
                continue
            if node in on_path:
                return [*path[path.index(node) :], node]
            if node in done:
                continue
            path.append(node)
            on_path.add(node)
            stack.append((node, True))
            stack.extend((following, False) for following in edges.get(node, ()))
    return []


def check_acyclic(edges: Mapping[str, Sequence[str]]) -> None:
    """Raises InvalidArgument (DEPENDENCY_CYCLE) naming the cycle."""
    cycle = find_cycle(edges)
    if cycle:
        text = " waits for ".join(cycle)
        raise InvalidArgument(
            f"the jobs wait for each other in a circle: {text}; take one of these dependencies out",
            reason="DEPENDENCY_CYCLE",
            metadata={"cycle": " > ".join(cycle)},
        )
