"""Job groups: jobs that were submitted together, with what waits for what. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk_kernel.model.dependency import Need
from hypersdk_kernel.model.job import TERMINAL, JobState


class OnFailure(enum.StrEnum):
    """What becomes of the other jobs of a group when one fails or is cancelled."""

    CONTINUE = "continue"
    CANCEL_REST = "cancel_rest"


class GroupState(enum.StrEnum):
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Edge:
    """Within the group: the member waits for the one with `key`."""

    key: str
    need: Need = Need.SUCCEEDED
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    key: str
    after: tuple[Edge, ...] = ()


@dataclass(frozen=True, slots=True)
class JobGroup:
    """`members` in the order in which they were given. Their jobs are `{id}-{key}`."""

    id: str
    members: tuple[Member, ...]
    on_failure: OnFailure = OnFailure.CONTINUE
    display_name: str = ""
    create_time: float = 0.0
    update_time: float = 0.0
    revision: int = 0

    @property
    def name(self) -> str:
        return f"jobGroups/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'

    def job_id(self, key: str) -> str:
        return f"{self.id}-{key}"


def group_state(counts: Mapping[str, int]) -> GroupState:
    """Of jobs by state."""
    present = {JobState(state) for state, n in counts.items() if n}
    if present - TERMINAL or not present:
        return GroupState.ACTIVE
    if JobState.FAILED in present:
        return GroupState.FAILED
    return GroupState.CANCELLED if JobState.CANCELLED in present else GroupState.SUCCEEDED
