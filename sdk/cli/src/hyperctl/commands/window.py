"""hyperctl window: the times at which jobs may run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hyperctl.commands.common import DryRunOption, OutputOption, completer, full_name, mode_of
from hyperctl.commands.documents import FileOption, SetOption, document, done
from hyperctl.messages import enum_name
from hyperctl.output import Column, show_list, show_one
from hyperctl.session import Session

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from hypersdk.api.policies.v1.policies_pb2 import Window, WindowOpening

app = typer.Typer(help="The times at which jobs may run.")
complete_window = completer(lambda s: iter(s.client.policies.list_windows()), "windows")
WindowArgument = Annotated[
    str, typer.Argument(metavar="WINDOW", help="windows/x, or x.", autocompletion=complete_window)
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Lower case letters, digits, dashes.")]
SpanOption = Annotated[
    list[str] | None,
    typer.Option("--open", metavar="DAYS HH:MM-HH:MM", help="'mon-fri 18:00-06:00', 'sat 00:00-24:00'; repeatable."),
]
ZoneOption = Annotated[str | None, typer.Option("--time-zone", "--tz", help="IANA zone; UTC by default.")]
HolidaysOption = Annotated[str | None, typer.Option("--holidays", help="Whose: DE, or DE-BY. Closed on them.")]
CloseOption = Annotated[str | None, typer.Option("--on-close", help="Of what runs: finish, pause, stop, cancel.")]


def _when(moment: Timestamp) -> str:
    return moment.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")


COLUMNS: list[Column[Window]] = [
    Column("NAME", lambda w: w.name),
    Column("OPEN", lambda w: "yes" if w.open else "no"),
    Column("CHANGES (UTC)", lambda w: _when(w.next_change_time) if w.HasField("next_change_time") else "never"),
    Column("ZONE", lambda w: w.time_zone),
    Column("ON CLOSE", lambda w: enum_name(w.DESCRIPTOR.fields_by_name["on_close"], w.on_close)),
    Column("HOLIDAYS", lambda w: "-".join(filter(None, (w.holiday_country, w.holiday_subdivision)))),
]
OPENINGS: list[Column[WindowOpening]] = [
    Column("OPENS (UTC)", lambda o: _when(o.start_time)),
    Column("CLOSES (UTC)", lambda o: _when(o.end_time) if o.HasField("end_time") else "never"),
]


@app.command("create")
def create_window(
    context: typer.Context,
    window_id: IdArgument,
    file: FileOption = None,
    spans: SpanOption = None,
    time_zone: ZoneOption = None,
    holidays: HolidaysOption = None,
    on_close: CloseOption = None,
    fields: SetOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Keep a window, from a file, flags, or both."""
    from hypersdk.api.policies.v1.policies_pb2 import Window

    session = Session.of(context)
    country, _, subdivision = (holidays or "").partition("-")
    flags = {
        "spans": [_span(text) for text in spans or []], "time_zone": time_zone, "holiday_country": country,
        "holiday_subdivision": subdivision, "on_close": on_close,
    }  # fmt: skip
    message = document(Window(), file, fields, flags)
    made = session.client.policies.create_window(window_id, message, validate_only=dry_run)
    done(session, made, "would be created" if dry_run else "created", output)


@app.command("list")
def list_windows(context: typer.Context, output: OutputOption = None) -> None:
    """List windows, and whether they are open."""
    session = Session.of(context)
    show_list(session.client.policies.list_windows(), COLUMNS, mode_of(session, output), empty="no windows")


@app.command("get")
def get_window(context: typer.Context, name: WindowArgument, output: OutputOption = None) -> None:
    """Show one window."""
    session = Session.of(context)
    show_one(session.client.policies.get_window(full_name("windows", name)), mode_of(session, output))


@app.command("update")
def update_window(
    context: typer.Context,
    name: WindowArgument,
    file: FileOption = None,
    fields: SetOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Change the fields that a file or --set names; the others stay."""
    from hypersdk.api.policies.v1.policies_pb2 import Window

    session = Session.of(context)
    message = document(Window(), file, fields)
    changed = [field.name for field, _ in message.ListFields()]
    message.name = full_name("windows", name)
    made = session.client.policies.update_window(message, changed, validate_only=dry_run)
    done(session, made, "would be changed" if dry_run else "changed", output)


@app.command("delete")
def delete_window(context: typer.Context, name: WindowArgument, dry_run: DryRunOption = False) -> None:
    """Forget a window that no job or limit needs any more."""
    session = Session.of(context)
    session.client.policies.delete_window(full_name("windows", name), validate_only=dry_run)
    session.say(f"{full_name('windows', name)}: {'would be deleted' if dry_run else 'deleted'}")


@app.command("evaluate")
def evaluate_window(
    context: typer.Context,
    name: WindowArgument,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many openings.")] = 5,
    output: OutputOption = None,
) -> None:
    """Show the next openings of a window."""
    session = Session.of(context)
    found = session.client.policies.evaluate_window(full_name("windows", name), count=count)
    session.say("open" if found.open else f"closed{': ' + found.reason if found.reason else ''}")
    show_list(found.openings, OPENINGS, mode_of(session, output), empty="it does not open in the next year")


_DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")


def _span(text: str) -> dict[str, object]:
    """`mon-fri 18:00-06:00`. Raises InvalidArgument (TEMPLATE_INVALID)."""
    from hypersdk.errors import InvalidArgument

    days_text, _, hours = text.strip().partition(" ")
    start, dash, end = hours.strip().partition("-")
    days: list[str] = []
    try:
        for part in days_text.split(","):
            first, _, last = part.partition("-")
            low, high = _day(first), _day(last or first)
            days += [_DAYS[n % 7] for n in range(low, high + 1 if high >= low else high + 8)]
        if not dash:
            raise ValueError(text)
    except ValueError:
        raise InvalidArgument(
            f"--open {text[:40]!r} is no span; write 'mon-fri 18:00-06:00'", reason="TEMPLATE_INVALID"
        ) from None
    return {"days": days, "start_time_of_day": start, "end_time_of_day": end}


def _day(text: str) -> int:
    short = [day[:3].lower() for day in _DAYS]
    return short.index(text.strip().lower()[:3])
