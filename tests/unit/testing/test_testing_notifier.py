"""The notifier suite holds for a notifier that keeps the contract, and finds those that do not."""

from dataclasses import replace

import pytest
from hypersdk.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from hypersdk.plugin import Health, Notifier, Receipt
from hypersdk.testing.notifier_contract import SAMPLE, NotifierContract, Receiver


class Mailbox(Receiver):
    def __init__(self):
        self.ids = []
        self.failure = None

    def received(self):
        return list(self.ids)

    def refuse(self, *, permanently):
        self.failure = FailedPrecondition("said no") if permanently else Unavailable("said later")

    def fall_silent(self):
        self.failure = DeadlineExceeded("no answer within 2 s")

    def go_away(self):
        self.failure = Unavailable("connection refused")


class ToMailbox(Notifier):
    def __init__(self, mailbox):
        self.mailbox = mailbox

    def configure(self, config, secrets): ...

    def health(self):
        failure = self.mailbox.failure
        return Health(failure is None, "" if failure is None else failure.message)

    def send(self, notification):
        if self.mailbox.failure is not None:
            raise self.mailbox.failure
        self.mailbox.ids.append(notification.id)
        return Receipt({"status": "taken"})


class TestAnHonestNotifier(NotifierContract):
    capabilities = frozenset({"delivery_id"})

    @pytest.fixture
    def receiver(self):
        return Mailbox()

    @pytest.fixture
    def secret_values(self):
        return ["hunter2hunter2"]

    @pytest.fixture
    def make(self, receiver):
        return lambda: ToMailbox(receiver)


class Forgetful(ToMailbox):
    """Gives every attempt an id of its own."""

    def send(self, notification):
        return super().send(replace(notification, id=f"{notification.id}-{notification.attempt}"))


class Careless(ToMailbox):
    """Says that it was taken, whatever happened."""

    def send(self, notification):
        return Receipt()


def test_an_id_that_changes_between_attempts_is_found():
    suite, mailbox = TestAnHonestNotifier(), Mailbox()
    with pytest.raises(AssertionError):
        suite.test_a_second_attempt_carries_the_same_id(lambda: Forgetful(mailbox), mailbox)


def test_a_success_that_delivered_nothing_is_found():
    suite, mailbox = TestAnHonestNotifier(), Mailbox()
    with pytest.raises(AssertionError):
        suite.test_what_send_returned_for_has_arrived(Careless(mailbox), mailbox)


def test_a_sample_is_what_the_contract_promises_of_ids():
    assert len(SAMPLE.id) <= 128
    assert SAMPLE.id.isascii()
    assert SAMPLE.id.isprintable()
    assert " " not in SAMPLE.id
