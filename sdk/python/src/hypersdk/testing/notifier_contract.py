"""NotifierContract: what every implementation of `hypersdk.plugin.Notifier` must keep.

Not here: a receiver's own protocol (signatures, templates), which the plugin's own tests cover.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import pytest

from hypersdk.errors import HyperError
from hypersdk.plugin.notifier import Notification, Notifier, Receipt

HOSTILE_TEXT = (
    "jobs/a\r\nBcc: victim@example.com",
    "jobs/\x1b]0;owned\x07",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "\u202egnp.exe",
    "a\0b",
    "x" * 70_000,
)
SAMPLE = Notification(
    id="0f5c6c1e-7f0e-4d9b-9a35-2f6f0f1c6a10.42",
    type="job.succeeded",
    subject="jobs/nightly-42",
    actor="runner",
    time_s=1_800_000_000.25,
    revision=42,
    payload={"job": {"id": "nightly-42", "labels": {"team": "blue"}}},
    subscription="subscriptions/ops",
)


class Receiver(abc.ABC):
    """The other end, as the suite sees it: the plugin's author writes one for a server that the test started."""

    @abc.abstractmethod
    def received(self) -> Sequence[str]:
        """Ids of the notifications that have taken effect, in order; for a notifier without `delivery_id`, any
        string for each. A receiver that drops duplicates by id lists an id once."""

    @abc.abstractmethod
    def refuse(self, *, permanently: bool) -> None:
        """From now on refuse whatever comes, for a while or for good."""

    @abc.abstractmethod
    def fall_silent(self) -> None:
        """From now on take connections and answer nothing."""

    @abc.abstractmethod
    def go_away(self) -> None:
        """From now on nobody listens at the address."""


class NotifierContract:
    """Subclass it and give:

    receiver      a Receiver that has received nothing yet
    make          a function without arguments that makes a new configured Notifier for `receiver`, whose waits are
                  limited to 2 s or less
    secret_values the secrets' values with which `make` configures it
    capabilities  as in the manifest
    """

    capabilities: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def receiver(self) -> Receiver:
        raise NotImplementedError("give a `receiver` fixture in the subclass: the other end, started by the test")

    @pytest.fixture
    def secret_values(self) -> Sequence[str]:
        raise NotImplementedError("give a `secret_values` fixture in the subclass; empty where there are none")

    @pytest.fixture
    def make(self, receiver: Receiver, secret_values: Sequence[str]) -> Callable[[], Notifier]:
        raise NotImplementedError("give a `make` fixture in the subclass: makes a configured Notifier")

    @pytest.fixture
    def notifier(self, make: Callable[[], Notifier]) -> Notifier:
        return make()

    def test_health_of_a_reachable_receiver_is_ok_and_tells_nobody(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        """`health` runs every few seconds in some places. Mend: connect, say nothing that becomes a message."""
        health = notifier.health()
        assert health.ok, health.message
        assert list(receiver.received()) == []

    def test_health_of_a_receiver_that_is_away_is_an_answer(self, notifier: Notifier, receiver: Receiver) -> None:
        """Mend: return Health(False, why) instead of raising."""
        receiver.go_away()
        health = notifier.health()
        assert not health.ok
        assert health.message

    def test_what_send_returned_for_has_arrived(self, notifier: Notifier, receiver: Receiver) -> None:
        """After `send` the kernel forgets the event. Mend: wait for the receiver's confirmation."""
        assert isinstance(notifier.send(SAMPLE), Receipt)
        assert len(receiver.received()) == 1

    def test_the_receiver_is_told_the_delivery_id(self, notifier: Notifier, receiver: Receiver) -> None:
        """Capability `delivery_id`: without the id nobody can tell a duplicate. Mend: put `notification.id` into a
        header or field of the message; or take the capability back."""
        if "delivery_id" not in self.capabilities:
            pytest.skip("the manifest does not declare delivery_id")
        notifier.send(SAMPLE)
        assert list(receiver.received()) == [SAMPLE.id]

    def test_a_second_attempt_carries_the_same_id(
        self, make: Callable[[], Notifier], receiver: Receiver
    ) -> None:
        """Also from another process: the kernel may have died between the two. Mend: derive nothing from time,
        attempt or instance; with `deduplicates`, the second one must have no effect."""
        make().send(SAMPLE)
        make().send(dataclasses.replace(SAMPLE, attempt=2))
        arrived = list(receiver.received())
        if "deduplicates" in self.capabilities:
            assert len(arrived) == 1
        else:
            assert len(arrived) == 2
        if "delivery_id" in self.capabilities:
            assert set(arrived) == {SAMPLE.id}

    def test_different_notifications_are_not_taken_for_duplicates(self, notifier: Notifier, receiver: Receiver) -> None:
        """Mend: compare whole ids."""
        notifier.send(SAMPLE)
        notifier.send(dataclasses.replace(SAMPLE, id=SAMPLE.id + "0", revision=420))
        assert len(receiver.received()) == 2

    def test_a_refusal_for_a_while_is_retryable(self, notifier: Notifier, receiver: Receiver) -> None:
        """Mend: raise Unavailable or ResourceExhausted for what may pass (5xx, 429, SMTP 4yz)."""
        receiver.refuse(permanently=False)
        assert self.failure(notifier).retryable
        assert list(receiver.received()) == []

    def test_a_refusal_for_good_is_not_retryable(self, notifier: Notifier, receiver: Receiver) -> None:
        """Repeating it for hours helps nobody. Mend: raise FailedPrecondition or PermissionDenied for what will
        not pass (4xx, SMTP 5yz)."""
        receiver.refuse(permanently=True)
        assert not self.failure(notifier).retryable
        assert list(receiver.received()) == []

    def test_a_receiver_that_is_away_is_retryable(self, notifier: Notifier, receiver: Receiver) -> None:
        """Mend: raise Unavailable for connection errors."""
        receiver.go_away()
        assert self.failure(notifier).retryable

    @pytest.mark.timeout(30)
    def test_a_silent_receiver_ends_in_a_retryable_timeout(self, notifier: Notifier, receiver: Receiver) -> None:
        """One receiver that hangs must not hold a thread of the host for ever. Mend: give every socket a timeout,
        and raise DeadlineExceeded or Unavailable."""
        receiver.fall_silent()
        assert self.failure(notifier).retryable

    def test_errors_hold_no_secret_and_no_payload(
        self, make: Callable[[], Notifier], receiver: Receiver, secret_values: Sequence[str]
    ) -> None:
        """Errors are stored with the delivery and shown in lists. Mend: name the receiver and its status, never
        headers, bodies or credentials."""
        marked = dataclasses.replace(SAMPLE, payload={"note": "content-of-the-payload"})
        hurts: list[Callable[[], None]] = [partial(receiver.refuse, permanently=True)]
        hurts += [receiver.fall_silent, receiver.go_away]
        for hurt in hurts:
            hurt()
            error = self.failure(make(), marked)
            told = f"{error.message} {error.metadata} {error!r}"
            assert "content-of-the-payload" not in told
            assert not [value for value in secret_values if value in told]

    def test_an_instance_does_not_show_its_secrets(self, notifier: Notifier, secret_values: Sequence[str]) -> None:
        """Instances end in tracebacks. Mend: no dataclass repr over secrets."""
        assert not [value for value in secret_values if value in repr(notifier)]

    @pytest.mark.parametrize("text", HOSTILE_TEXT)
    def test_hostile_text_arrives_as_one_notification_or_is_refused_for_good(
        self, notifier: Notifier, receiver: Receiver, text: str
    ) -> None:
        """A name chosen by a stranger must neither split a header nor stop the queue for ever. Mend: encode, cut or
        replace what the protocol cannot carry."""
        hostile = dataclasses.replace(SAMPLE, subject=text, payload={"name": text})
        refusal: HyperError | None = None
        try:
            notifier.send(hostile)
        except HyperError as exc:
            refusal = exc
        assert refusal is None or not refusal.retryable, refusal
        assert len(receiver.received()) == (1 if refusal is None else 0)

    def test_close_may_be_repeated(self, notifier: Notifier) -> None:
        """Mend: make `close` idempotent."""
        notifier.close()
        notifier.close()

    def failure(self, notifier: Notifier, notification: Notification = SAMPLE) -> HyperError:
        """The typed error that `send` must raise now."""
        with pytest.raises(HyperError) as caught:
            notifier.send(notification)
        return caught.value
