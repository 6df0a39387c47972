"""Notifier: the contract of `hypersdk.notifier` plugins: a way to tell somebody of an event.

An instance belongs to one connection. Its life: created with no arguments, `configure(config, secrets)`, then `health`
and
`send`, each any number of times, then `close()`.

Delivery is **at least once**. The kernel calls `send` until one call returned, or raised an error that is not
retryable, or
the subscription's retry policy ended. If the kernel dies after `send` returned and before it wrote that down, the same
notification comes again: with the same `id`, which is what a receiver needs to tell a duplicate.

Duties of `send`:

* It returns only when the receiver has taken the notification. "Queued in this process" is not taken.
* It ends by itself, within the time that the manifest gives the method `Send`: every wait in it has a limit.
* What it raises decides what follows. Retryable (Unavailable, DeadlineExceeded, ResourceExhausted with
  `retry_after_s` where
  the receiver named a time): it is called again. Not retryable (InvalidArgument, FailedPrecondition,
  PermissionDenied, …): the
  receiver will never take it, and it becomes a dead letter.
* Values of secrets and the content of `payload` are in no error message: those are stored and shown.
* Text in a notification is hostile: names of machines and jobs were chosen by strangers. Header injection, markup,
  terminal sequences and path traversal are the notifier's to prevent.

Capabilities: `delivery_id` (the receiver is told the id), `deduplicates` (a repeated id has no second effect).

Not here: which events go to whom, in what order and how often again: the kernel's subscriptions decide that.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypersdk.plugin.provider import Health


@dataclass(frozen=True, slots=True)
class Notification:
    """One event on its way to one receiver.

    id            of the delivery: the same at every attempt, after a restart and at a redelivery; printable ASCII
                  without
                  spaces, at most 128 characters
    type          `noun.verbed` or `job.<state>`; `notification.test` when somebody tries a subscription,
                  `notification.gap` when events were lost to it
    subject       resource name of what the event is about, `jobs/x`
    actor         who caused it: `local`, `token`, `kernel`, `runner`
    time_s        when it happened, seconds since the epoch, UTC
    revision      the event's number in the log, growing in time; 0 for `notification.test`
    payload       JSON-able, as EventService gives it
    subscription  resource name, `subscriptions/x`
    attempt       1 for the first
    """

    id: str
    type: str
    subject: str
    actor: str
    time_s: float
    revision: int = 0
    payload: Mapping[str, Any] = field(default_factory=dict)
    subscription: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the receiver answered, for people who look why: a status line, a message id. No secrets, and nothing that
    the receiver sent beyond some hundred characters."""

    details: Mapping[str, str] = field(default_factory=dict)


class Notifier(abc.ABC):
    """A way to tell somebody. Not thread-safe unless the manifest's concurrency says so."""

    @abc.abstractmethod
    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """(C) Called once before anything else. `config` has passed the manifest's config schema; `secrets` holds the
        resolved values of its `secret: true` fields. Raises InvalidArgument naming the field; no network here."""

    @abc.abstractmethod
    def health(self) -> Health:
        """(C) Can the receiver be reached? Tells nobody anything, and never raises for one that is away."""

    @abc.abstractmethod
    def send(self, notification: Notification) -> Receipt:
        """(C) Hand one notification to the receiver; see the module's text for the duties."""

    def close(self) -> None:
        """(C) Release connections. Idempotent."""
