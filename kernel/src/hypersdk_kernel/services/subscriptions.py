"""SubscriptionService."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty
from hypersdk.api.subscriptions.v1 import subscriptions_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.engine.notifying import NotifierCalls
from hypersdk_kernel.engine.subscriptions import Subscriptions
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.model.subscription import DEFAULT_RETRY, DeadLetter, Position, Subscription
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.jobviews import error_message
from hypersdk_kernel.services.retryviews import retry_message, retry_of
from hypersdk_kernel.services.values import duration, struct, timestamp
from hypersdk_kernel.store.tables import subscriptions as table

FILTER_FIELDS = {
    "name": Field(Kind.TEXT, operator.attrgetter("name"), "subscriptions/" + table.c.id),
    "connection": Field(Kind.TEXT, operator.attrgetter("connection"), "connections/" + table.c.connection_id),
    "labels": Field(Kind.MAP, operator.attrgetter("labels"), lambda key: table.c.labels[key].as_string()),
}
_UPDATABLE = ("display_name", "labels", "connection", "filter", "retry_policy")
_RETRY_FIELD = "subscription.retry_policy"


class SubscriptionService(Service):
    """Keeps subscriptions, tests them, and has things told once more."""

    descriptor = pb.DESCRIPTOR.services_by_name["SubscriptionService"]

    def __init__(self, subscriptions: Subscriptions, notifiers: NotifierCalls) -> None:
        self._subscriptions = subscriptions
        self._notifiers = notifiers

    async def create_subscription(self, request: pb.CreateSubscriptionRequest, call: Call) -> pb.Subscription:
        new = request.subscription
        made = await self._subscriptions.create(
            request.subscription_id,
            new.connection,
            filter_text=new.filter,
            retry=retry_of(new.retry_policy, DEFAULT_RETRY, _RETRY_FIELD),
            display_name=new.display_name,
            labels=dict(new.labels),
            paused=request.paused,
            after_revision=request.after_revision if request.HasField("after_revision") else None,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        if request.validate_only:
            return self._message(made, Position(self._subscriptions.last_revision), 0)
        return await self._view(made.id)

    async def get_subscription(self, request: pb.GetSubscriptionRequest, _call: Call) -> pb.Subscription:
        return await self._view(_id(request.name))

    async def list_subscriptions(
        self, request: pb.ListSubscriptionsRequest, _call: Call
    ) -> pb.ListSubscriptionsResponse:
        size = pages.page_size(request.page_size)
        asked = ("subscriptions", request.filter)
        key = pages.key_of(request.page_token, (str,), *asked)
        where = parse(request.filter).sql(FILTER_FIELDS)
        rows = await self._subscriptions.page(size + 1, key[0] if key else "", where)
        page, token = pages.cut(rows, size, lambda row: pages.token((row[0].id,), *asked))
        return pb.ListSubscriptionsResponse(
            subscriptions=[self._message(*row) for row in page], next_page_token=token
        )

    async def update_subscription(self, request: pb.UpdateSubscriptionRequest, call: Call) -> pb.Subscription:
        given = request.subscription
        changed = await self._subscriptions.update(
            id_of(given.name, "subscriptions", "subscription.name"),
            _changes(request),
            etag=given.etag,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return await self._view(changed.id, changed)

    async def delete_subscription(self, request: pb.DeleteSubscriptionRequest, call: Call) -> Empty:
        await self._subscriptions.delete(_id(request.name), etag=request.etag, **_terms(request, call))
        return Empty()

    async def test_subscription(
        self, request: pb.TestSubscriptionRequest, call: Call
    ) -> pb.TestSubscriptionResponse:
        """The receiver's refusal is an answer, not an error of this call."""
        subscription, _, _ = await self._subscriptions.get(_id(request.name))
        result = await self._notifiers.test(subscription, call.actor, call.timeout_s)
        return pb.TestSubscriptionResponse(
            ok=result.ok, message=result.message, latency=duration(result.latency_s), details=result.details
        )

    async def pause_subscription(self, request: pb.PauseSubscriptionRequest, call: Call) -> pb.Subscription:
        return await self._set_paused(request, call, paused=True)

    async def resume_subscription(self, request: pb.ResumeSubscriptionRequest, call: Call) -> pb.Subscription:
        return await self._set_paused(request, call, paused=False)

    async def _set_paused(self, request: Any, call: Call, *, paused: bool) -> pb.Subscription:
        terms = _terms(request, call)
        changed = await self._subscriptions.set_paused(_id(request.name), paused, etag=request.etag, **terms)
        return await self._view(changed.id, changed)

    async def redeliver_events(
        self, request: pb.RedeliverEventsRequest, call: Call
    ) -> pb.RedeliverEventsResponse:
        since = request.HasField("after_revision")
        if since + bool(request.dead_letters) + request.all_dead_letters != 1:
            rule = "give exactly one of after_revision, dead_letters and all_dead_letters"
            raise InvalidArgument(
                rule, reason="VALUE_INVALID", violations=(FieldViolation("after_revision", rule),)
            )
        count = await self._subscriptions.redeliver(
            _id(request.name),
            after_revision=request.after_revision if since else None,
            letters=None if request.all_dead_letters else list(request.dead_letters),
            **_terms(request, call),
        )
        return pb.RedeliverEventsResponse(dead_letter_count=count)

    async def list_dead_letters(
        self, request: pb.ListDeadLettersRequest, _call: Call
    ) -> pb.ListDeadLettersResponse:
        subscription_id = id_of(request.parent, "subscriptions", "parent")
        size = pages.page_size(request.page_size)
        asked = ("deadLetters", request.parent)
        key = pages.key_of(request.page_token, (int, str), *asked)
        after = (int(key[0]), str(key[1])) if key else (-1, "")
        found = await self._subscriptions.letters(subscription_id, size + 1, after)
        page, token = pages.cut(
            found, size, lambda letter: pages.token((letter.notice.event.revision, letter.notice.key), *asked)
        )
        return pb.ListDeadLettersResponse(
            dead_letters=[_letter_message(letter) for letter in page], next_page_token=token
        )

    async def _view(self, subscription_id: str, changed: Subscription | None = None) -> pb.Subscription:
        """With where it is. `changed`: what it is, or would be, if another answer than the store's is wanted."""
        subscription, position, letters = await self._subscriptions.get(subscription_id)
        return self._message(changed or subscription, position, letters)

    def _message(self, subscription: Subscription, position: Position, letters: int) -> pb.Subscription:
        out = pb.Subscription(
            name=subscription.name,
            uid=subscription.uid,
            display_name=subscription.display_name,
            labels=subscription.labels,
            connection=subscription.connection,
            filter=subscription.filter,
            retry_policy=retry_message(subscription.retry),
            state=_state(subscription, position),
            revision=position.cursor,
            last_revision=self._subscriptions.last_revision,
            attempt_count=position.attempt_count,
            last_error=error_message(position.last_error),
            delivered_count=position.delivered_count,
            dead_letter_count=letters,
            dropped_count=position.dropped_count,
            create_time=timestamp(subscription.create_time),
            update_time=timestamp(subscription.update_time),
            etag=subscription.etag,
        )
        if position.next_attempt_time is not None:
            out.next_attempt_time.CopyFrom(timestamp(position.next_attempt_time))
        if position.last_success_time is not None:
            out.last_success_time.CopyFrom(timestamp(position.last_success_time))
        return out


def _id(name: str) -> str:
    return id_of(name, "subscriptions")


def _terms(request: Any, call: Call) -> dict[str, Any]:
    return {"actor": call.actor, "key": call.key, "validate_only": request.validate_only}


def _state(subscription: Subscription, position: Position) -> pb.SubscriptionState.ValueType:
    if subscription.paused:
        return pb.SUBSCRIPTION_STATE_PAUSED
    if position.attempt_count:
        return pb.SUBSCRIPTION_STATE_RETRYING
    return pb.SUBSCRIPTION_STATE_FAILING if position.failing else pb.SUBSCRIPTION_STATE_ACTIVE


def _changes(request: pb.UpdateSubscriptionRequest) -> dict[str, Any]:
    """What to set: what the mask names, or without one whatever is set in the message."""
    given = request.subscription
    paths = tuple(request.update_mask.paths)
    if "*" in paths:
        paths = _UPDATABLE
    for path in paths:
        if path not in _UPDATABLE:
            rule = f"cannot be changed; these can: {', '.join(_UPDATABLE)}"
            raise InvalidArgument(
                f"subscription.{path[:80]} {rule}",
                reason="FIELD_IMMUTABLE",
                violations=(FieldViolation(f"subscription.{path[:80]}", rule),),
            )
    values: Mapping[str, tuple[bool, str, Any]] = {
        "display_name": (bool(given.display_name), "display_name", given.display_name),
        "labels": (bool(given.labels), "labels", dict(given.labels)),
        "connection": (bool(given.connection), "connection", given.connection),
        "filter": (bool(given.filter), "filter", given.filter),
        "retry_policy": (
            given.HasField("retry_policy"), "retry", retry_of(given.retry_policy, DEFAULT_RETRY, _RETRY_FIELD)
        ),
    }  # fmt: skip
    return {
        name: value for path, (present, name, value) in values.items() if (path in paths if paths else present)
    }


def _letter_message(letter: DeadLetter) -> pb.DeadLetter:
    event = letter.notice.event
    return pb.DeadLetter(
        name=letter.name,
        delivery_id=letter.notice.delivery_id,
        revision=event.revision,
        time=timestamp(event.time),
        type=event.type,
        subject=event.subject,
        actor=event.actor,
        payload=struct(event.payload),
        attempt_count=letter.attempt_count,
        error=error_message(letter.error),
        create_time=timestamp(letter.create_time),
        queued=letter.queued,
    )
