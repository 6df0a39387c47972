"""hyperctl subscription: who is told of which events, and what their receivers would not take."""

from __future__ import annotations

import enum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import InvalidArgument, Unavailable

from hyperctl.commands.common import (
    DryRunOption,
    FilterOption,
    LimitOption,
    OutputOption,
    complete_connection,
    completer,
    full_name,
    mode_of,
)
from hyperctl.output import Column, Mode, show_list, show_one
from hyperctl.pairs import parse_pairs
from hyperctl.session import Session
from hyperctl.units import parse_duration

if TYPE_CHECKING:
    from hypersdk.api.jobs.v1.jobs_pb2 import RetryPolicy
    from hypersdk.api.subscriptions.v1.subscriptions_pb2 import DeadLetter, Subscription

app = typer.Typer(help="Who is told of which events.")


class Strategy(enum.StrEnum):
    """Values of --retry-strategy."""

    NONE = "none"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


_complete = completer(lambda s: iter(s.client.subscriptions.list()), "subscriptions")
NameArgument = Annotated[
    str, typer.Argument(metavar="SUBSCRIPTION", help="subscriptions/x, or x.", autocompletion=_complete)
]
ConnectionOption = Annotated[
    str | None,
    typer.Option("--connection", "-c", help="Of a notifier: connections/x, or x.", autocompletion=complete_connection),
]
EventsOption = Annotated[
    str | None,
    typer.Option("--events", help="Which events, AIP-160: type = \"job.failed\" AND labels.team = blue. Empty: all."),
]
LabelOption = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")]
AttemptsOption = Annotated[int, typer.Option("--attempts", min=0, max=100, help="Attempts in all; 0: as it is, or 10.")]
DelayOption = Annotated[str, typer.Option("--retry-delay", help="Before the second attempt: 5s.")]
MaxDelayOption = Annotated[str, typer.Option("--retry-max-delay", help="No delay is longer: 10m.")]
StrategyOption = Annotated[
    Strategy | None, typer.Option("--retry-strategy", help="How delays grow; exponential unless given.")
]

def _state(subscription: Subscription) -> str:
    from hypersdk.api.subscriptions.v1.subscriptions_pb2 import SubscriptionState

    return SubscriptionState.Name(subscription.state).removeprefix("SUBSCRIPTION_STATE_")


COLUMNS: list[Column[Subscription]] = [
    Column("NAME", lambda s: s.name),
    Column("STATE", _state),
    Column("CONNECTION", lambda s: s.connection),
    Column("DELIVERED", lambda s: s.delivered_count),
    Column("WAITING", lambda s: max(0, s.last_revision - s.revision)),
    Column("DEAD", lambda s: s.dead_letter_count),
    Column("LAST SUCCESS", lambda s: _time(s, "last_success_time")),
    Column("NEXT ATTEMPT", lambda s: _time(s, "next_attempt_time"), wide=True),
    Column("EVENTS", lambda s: s.filter, wide=True),
    Column("LAST ERROR", lambda s: s.last_error.message, wide=True),
]
LETTER_COLUMNS: list[Column[DeadLetter]] = [
    Column("NAME", lambda d: d.name),
    Column("TIME", lambda d: d.time.ToDatetime().isoformat(timespec="seconds")),
    Column("TYPE", lambda d: d.type),
    Column("SUBJECT", lambda d: d.subject),
    Column("ATTEMPTS", lambda d: d.attempt_count),
    Column("REASON", lambda d: d.error.reason),
    Column("QUEUED", lambda d: "yes" if d.queued else "", wide=True),
    Column("ERROR", lambda d: d.error.message, wide=True),
    Column("DELIVERY ID", lambda d: d.delivery_id, wide=True),
]


@app.command("list")
def list_subscriptions(context: typer.Context, filter_text: FilterOption = "", output: OutputOption = None) -> None:
    """List subscriptions and how they fare. WAITING counts events of any kind, wanted or not."""
    session = Session.of(context)
    found = session.client.subscriptions.list(filter=filter_text)
    show_list(found, COLUMNS, mode_of(session, output), empty="no subscriptions; hyperctl subscription create --help")


@app.command("get")
def get_subscription(context: typer.Context, name: NameArgument, output: OutputOption = None) -> None:
    """Show one subscription."""
    session = Session.of(context)
    show_one(session.client.subscriptions.get(full_name("subscriptions", name)), mode_of(session, output))


@app.command("create")
def create_subscription(
    context: typer.Context,
    subscription_id: Annotated[str, typer.Argument(metavar="ID", help="Lower case letters, digits, dashes.")],
    connection: Annotated[
        str,
        typer.Option("--connection", "-c", help="Of a notifier.", autocompletion=complete_connection),
    ],
    events: EventsOption = None,
    attempts: AttemptsOption = 0,
    retry_delay: DelayOption = "",
    retry_max_delay: MaxDelayOption = "",
    retry_strategy: StrategyOption = None,
    since: Annotated[
        int | None, typer.Option("--since", min=0, help="Events after this revision too; else only those to come.")
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Send nothing until it is resumed.")] = False,
    display_name: Annotated[str, typer.Option(help="For people.")] = "",
    label: LabelOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Have somebody told of events."""
    session = Session.of(context)
    made = session.client.subscriptions.create(
        subscription_id.removeprefix("subscriptions/"), full_name("connections", connection), filter=events or "",
        retry_policy=_policy(attempts, retry_delay, retry_max_delay, retry_strategy), after_revision=since,
        paused=paused, display_name=display_name, labels=_labels(label), validate_only=dry_run,
    )  # fmt: skip
    _done(session, made, "would be created" if dry_run else "created", output)


@app.command("update")
def update_subscription(
    context: typer.Context,
    name: NameArgument,
    connection: ConnectionOption = None,
    events: EventsOption = None,
    attempts: AttemptsOption = 0,
    retry_delay: DelayOption = "",
    retry_max_delay: MaxDelayOption = "",
    retry_strategy: StrategyOption = None,
    display_name: Annotated[str | None, typer.Option(help="For people.")] = None,
    label: LabelOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Change what is given. The retry policy changes as a whole."""
    session = Session.of(context)
    changed = session.client.subscriptions.update(
        full_name("subscriptions", name), filter=events, display_name=display_name, labels=_labels(label),
        connection=full_name("connections", connection) if connection else None,
        retry_policy=_policy(attempts, retry_delay, retry_max_delay, retry_strategy), validate_only=dry_run,
    )  # fmt: skip
    _done(session, changed, "would be updated" if dry_run else "updated", output)


@app.command("delete")
def delete_subscription(context: typer.Context, name: NameArgument, dry_run: DryRunOption = False) -> None:
    """Forget a subscription and its dead letters."""
    session = Session.of(context)
    full = full_name("subscriptions", name)
    session.client.subscriptions.delete(full, validate_only=dry_run)
    session.say(f"{full} {'would be deleted' if dry_run else 'deleted'}")


@app.command("test")
def check_subscription(context: typer.Context, name: NameArgument, output: OutputOption = None) -> None:
    """Send one notification.test now; exit status 7 when it is not taken."""
    session = Session.of(context)
    full = full_name("subscriptions", name)
    answer = session.client.subscriptions.test(full)
    show_one(answer, mode_of(session, output))
    if not answer.ok:
        raise Unavailable(f"{full} could not be told: {answer.message}", reason="SUBSCRIPTION_TEST_FAILED")


@app.command("pause")
def pause_subscription(
    context: typer.Context, name: NameArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Send nothing until it is resumed. Events wait in the log, as long as that keeps them."""
    session = Session.of(context)
    changed = session.client.subscriptions.pause(full_name("subscriptions", name), validate_only=dry_run)
    _done(session, changed, "would be paused" if dry_run else "paused", output)


@app.command("resume")
def resume_subscription(
    context: typer.Context, name: NameArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Go on where it was paused, at once."""
    session = Session.of(context)
    changed = session.client.subscriptions.resume(full_name("subscriptions", name), validate_only=dry_run)
    _done(session, changed, "would be resumed" if dry_run else "resumed", output)


@app.command("redeliver")
def redeliver(
    context: typer.Context,
    name: NameArgument,
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[DEAD LETTER]...", help="event-42, or the full name.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    since: Annotated[int | None, typer.Option("--since", min=0, help="All events after this revision.")] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Tell once more, under the same delivery ids: dead letters, or everything after a revision."""
    session = Session.of(context)
    full = full_name("subscriptions", name)
    if bool(letters) + everything + (since is not None) != 1:
        raise InvalidArgument("name dead letters, or give --all, or --since REVISION", reason="ARGUMENT_MISSING")
    names = [letter if "/" in letter else f"{full}/deadLetters/{letter}" for letter in letters or ()]
    count = session.client.subscriptions.redeliver(
        full, after_revision=since, dead_letters=names, all_dead_letters=everything, validate_only=dry_run
    )
    what = f"everything after revision {since}" if since is not None else f"{count} dead letters"
    session.say(f"{full}: {what} {'would be' if dry_run else 'will be'} told once more")


@app.command("dead-letters")
def dead_letters(
    context: typer.Context, name: NameArgument, limit: LimitOption = 100, output: OutputOption = None
) -> None:
    """List what its receiver would not take."""
    session = Session.of(context)
    found = session.client.subscriptions.dead_letters(
        full_name("subscriptions", name), page_size=min(limit or 1000, 1000)
    )
    show_list(islice(found, limit or None), LETTER_COLUMNS, mode_of(session, output), empty="no dead letters")


def _labels(items: list[str] | None) -> dict[str, str] | None:
    return parse_pairs(items, flag="--label") if items else None


def _policy(attempts: int, delay: str, max_delay: str, strategy: Strategy | None) -> RetryPolicy | None:
    """None when nothing is said of it."""
    from hypersdk.api.jobs.v1.jobs_pb2 import BackoffStrategy, RetryPolicy

    policy = RetryPolicy(max_attempts=attempts)
    if delay:
        policy.initial_delay.FromMilliseconds(round(parse_duration(delay) * 1000))
    if max_delay:
        policy.max_delay.FromMilliseconds(round(parse_duration(max_delay) * 1000))
    if strategy is not None:
        policy.strategy = BackoffStrategy.Value(f"BACKOFF_STRATEGY_{strategy.name}")
    return policy if attempts or delay or max_delay or strategy is not None else None


def _time(subscription: Subscription, field: str) -> str:
    if not subscription.HasField(field):  # type: ignore[arg-type]  # one of its timestamps
        return ""
    return str(getattr(subscription, field).ToDatetime().isoformat(timespec="seconds"))


def _done(session: Session, subscription: Subscription, text: str, output: Mode | None) -> None:
    mode = mode_of(session, output)
    if mode is Mode.TABLE:
        session.say(f"{subscription.name} {text}")
    else:
        show_one(subscription, mode)
