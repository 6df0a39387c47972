"""Subscriptions: who is to be told of which events, how far they have been told, and what they would not take.

Not here: the telling (events.courier), and the notifier that does it (a plugin).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.model.retry import RetryPolicy

DEFAULT_RETRY = RetryPolicy(max_attempts=10, initial_delay_s=5.0, multiplier=2.0, max_delay_s=600.0)
"""About 40 minutes in all: longer than a receiver's restart, shorter than a night's silence."""
TEST_TYPE = "notification.test"
GAP_TYPE = "notification.gap"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What somebody asked for. `connection`: resource name of a connection of kind notifier. Times are seconds since
    the epoch."""

    id: str
    uid: str
    connection: str
    create_time: float
    update_time: float
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    filter: str = ""
    retry: RetryPolicy = DEFAULT_RETRY
    paused: bool = False
    revision: int = 0

    @property
    def name(self) -> str:
        return f"subscriptions/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'


@dataclass(frozen=True, slots=True)
class Position:
    """How far a subscription has been told.

    cursor         every event up to this revision was taken, became a dead letter, or did not pass the filter
    epoch          counts what operators did to the cursor: whoever writes with an older one was overtaken
    attempt_count  failed attempts of what is due next; 0: none yet
    redelivering   what is due next is a dead letter, not the event after the cursor
    first_time     of the first attempt of what is due, seconds since the epoch; None before it
    delay_s        of the wait that ends at next_attempt_time: bounds it when the clock is set back
    failing        the last thing that was decided became a dead letter
    dropped_count  dead letters that had to make room for newer ones
    gap_cursor     the cursor at which the loss of events was noticed and told in the log
    """

    cursor: int
    epoch: int = 0
    attempt_count: int = 0
    redelivering: bool = False
    next_attempt_time: float | None = None
    first_time: float | None = None
    delay_s: float = 0.0
    failing: bool = False
    last_error: Mapping[str, Any] | None = None
    last_success_time: float | None = None
    delivered_count: int = 0
    dropped_count: int = 0
    gap_cursor: int = -1

    def at_once(self) -> Position:
        """What is due is tried at once, with all its attempts before it."""
        return replace(self, attempt_count=0, next_attempt_time=None, first_time=None, delay_s=0.0)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell: an event, or that events were lost.

    delivery_id  the same whenever it is told
    key          names it among the dead letters, `event-42` or `gap-17`
    cursor       where the subscription is when this has been decided; 0 for a dead letter
    """

    delivery_id: str
    key: str
    event: Event
    cursor: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a receiver would not take. `queued`: an operator wants it told once more."""

    subscription_id: str
    notice: Notice
    attempt_count: int
    error: Mapping[str, Any]
    create_time: float
    queued: bool = False

    @property
    def name(self) -> str:
        return f"subscriptions/{self.subscription_id}/deadLetters/{self.notice.key}"


def notice_of(subscription: Subscription, event: Event) -> Notice:
    return Notice(f"{subscription.uid}.{event.revision}", f"event-{event.revision}", event, event.revision)


def gap_notice(subscription: Subscription, after: int, oldest: int, now: float) -> Notice:
    """That the events after revision `after` and before `oldest` are no longer kept and were never told."""
    payload = {"after_revision": after, "before_revision": oldest}
    lost = Event(oldest - 1, now, GAP_TYPE, subscription.name, "kernel", payload)
    return Notice(f"{subscription.uid}.gap.{after}", f"gap-{after}", lost, oldest - 1)


def accepts(subscription: Subscription) -> Callable[[Event], bool]:
    """Whether an event passes. Never one about the subscription itself: it would be told of its own failures. Raises
    InvalidArgument (FILTER_INVALID)."""
    passes = parse(subscription.filter).predicate(FILTER_FIELDS)
    own = subscription.name
    return lambda event: event.subject != own and passes(event)


def _resource(event: Event) -> Mapping[str, Any]:
    """The resource that the event's payload carries whole: a job, a connection, a schedule."""
    found = event.payload.get(event.type.partition(".")[0])
    return found if isinstance(found, Mapping) else {}


FILTER_FIELDS = {
    "type": Field(Kind.TEXT, operator.attrgetter("type")),
    "subject": Field(Kind.TEXT, operator.attrgetter("subject")),
    "actor": Field(Kind.TEXT, operator.attrgetter("actor")),
    "time": Field(Kind.TIME, operator.attrgetter("time")),
    "task": Field(Kind.TEXT, lambda event: _resource(event).get("task")),
    "labels": Field(Kind.MAP, lambda event: _resource(event).get("labels")),
}
