# Generated from aio/subscriptions.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.subscriptions: who is told of which events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.subscriptions.v1 import subscriptions_pb2 as pb
from hypersdk.api.subscriptions.v1 import subscriptions_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Subscriptions:
    """Calls of SubscriptionService. Names are `subscriptions/{subscription}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = subscriptions_pb2_grpc.SubscriptionServiceStub(channel)
        self._caller = caller

    def create(
        self,
        subscription_id: str,
        connection: str,
        *,
        filter: str = "",  # noqa: A002 - the API's name of it
        retry_policy: jobs_pb2.RetryPolicy | None = None,
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        after_revision: int | None = None,
        paused: bool = False,
        request_id: str = "",
        validate_only: bool = False,
    ) -> pb.Subscription:
        """Tell through `connection` (of a notifier) of the events that pass `filter`: those after `after_revision`, or
        those to come. Raises AlreadyExists, InvalidArgument, OutOfRange."""
        subscription = pb.Subscription(
            connection=connection, filter=filter, retry_policy=retry_policy, display_name=display_name,
            labels=labels or {},
        )  # fmt: skip
        request = pb.CreateSubscriptionRequest(
            subscription=subscription, subscription_id=subscription_id, after_revision=after_revision, paused=paused,
            request_id=request_id, validate_only=validate_only,
        )  # fmt: skip
        return self._caller.unary(self._stub.CreateSubscription, request)

    def get(self, name: str) -> pb.Subscription:
        """One, and how far it has been told. Raises NotFound."""
        return self._caller.unary(self._stub.GetSubscription, pb.GetSubscriptionRequest(name=name))

    def list(
        self, *, filter: str = "", page_size: int = 0  # noqa: A002 - the API's name of it
    ) -> Pager[pb.ListSubscriptionsResponse, pb.Subscription]:
        """All that pass the filter (AIP-160 subset over `name`, `connection` and `labels.*`)."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListSubscriptions,
                pb.ListSubscriptionsRequest(filter=filter, page_size=page_size, page_token=token),
            ),
            lambda page: page.subscriptions,
        )

    def update(
        self,
        name: str,
        *,
        connection: str | None = None,
        filter: str | None = None,  # noqa: A002 - the API's name of it
        retry_policy: jobs_pb2.RetryPolicy | None = None,
        display_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        etag: str = "",
        request_id: str = "",
        validate_only: bool = False,
    ) -> pb.Subscription:
        """Replace what is given, leave what is None. What was to be tried later is tried at once."""
        given = {
            "connection": connection, "filter": filter, "retry_policy": retry_policy, "display_name": display_name,
            "labels": labels,
        }  # fmt: skip
        if connection is None:
            connection = (self.get(name)).connection  # required in the message
        subscription = pb.Subscription(
            name=name, connection=connection, filter=filter or "", retry_policy=retry_policy,
            display_name=display_name or "", labels=labels or {}, etag=etag,
        )  # fmt: skip
        request = pb.UpdateSubscriptionRequest(
            subscription=subscription,
            update_mask=FieldMask(paths=[path for path, value in given.items() if value is not None]),
            request_id=request_id,
            validate_only=validate_only,
        )
        return self._caller.unary(self._stub.UpdateSubscription, request)

    def delete(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> None:
        """Forget it and its dead letters."""
        request = pb.DeleteSubscriptionRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        self._caller.unary(self._stub.DeleteSubscription, request)

    def test(self, name: str, *, timeout_s: float | None = 60.0) -> pb.TestSubscriptionResponse:
        """Send one `notification.test` now. A refusal is an answer (`ok` False), not an error."""
        return self._caller.unary(
            self._stub.TestSubscription, pb.TestSubscriptionRequest(name=name), timeout_s
        )

    def pause(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> pb.Subscription:
        """Send nothing until it is resumed."""
        request = pb.PauseSubscriptionRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.PauseSubscription, request)

    def resume(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> pb.Subscription:
        """Go on where it was paused, at once."""
        request = pb.ResumeSubscriptionRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.ResumeSubscription, request)

    def redeliver(
        self,
        name: str,
        *,
        after_revision: int | None = None,
        dead_letters: Sequence[str] = (),
        all_dead_letters: bool = False,
        request_id: str = "",
        validate_only: bool = False,
    ) -> int:
        """Tell once more everything after a revision, or dead letters; exactly one of the three is given. The number
        of dead letters. Raises OutOfRange, NotFound."""
        request = pb.RedeliverEventsRequest(
            name=name, after_revision=after_revision, dead_letters=dead_letters, all_dead_letters=all_dead_letters,
            request_id=request_id, validate_only=validate_only,
        )  # fmt: skip
        return int((self._caller.unary(self._stub.RedeliverEvents, request)).dead_letter_count)

    def dead_letters(
        self, name: str, *, page_size: int = 0
    ) -> Pager[pb.ListDeadLettersResponse, pb.DeadLetter]:
        """What its receiver would not take, in order of revision."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListDeadLetters,
                pb.ListDeadLettersRequest(parent=name, page_size=page_size, page_token=token),
            ),
            lambda page: page.dead_letters,
        )
