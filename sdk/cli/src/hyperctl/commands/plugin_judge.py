"""hyperctl plugin test: judge a plugin in any language. No daemon is asked.

Not here: the checks (hypersdk.testing.conformance).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import InvalidArgument

from hyperctl import exits
from hyperctl.commands.common import OutputOption, mode_of
from hyperctl.output import Mode, show_table, show_value
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.testing.conformance import Outcome, Report

_DETAIL = 90


def register(app: typer.Typer) -> None:
    app.command("test")(judge_plugin)


def judge_plugin(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A plugin's source folder, or a wheel.")],
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only components of this kind; repeatable.")] = None,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="static, protocol, methods, suites; repeatable. All if left out.")
    ] = None,
    check: Annotated[list[str] | None, typer.Option("--check", help="Only this check; repeatable.")] = None,
    output: OutputOption = None,
) -> None:
    """Run the conformance suites against a plugin; exit status 1 when it fails one."""
    from hypersdk.testing.conformance.engine import PARTS, run

    session = Session.of(context)
    mode = mode_of(session, output)
    unknown = sorted(set(part or ()) - set(PARTS))
    if unknown:
        raise InvalidArgument(f"--part must be one of {', '.join(PARTS)}, not {unknown[0][:40]!r}")
    report = run(path, parts=part or PARTS, kinds=kind or (), checks=check or (), tell=lambda o: _tell(session, o))
    if mode in {Mode.JSON, Mode.YAML}:
        show_value(report.to_json(), mode)
    elif mode is Mode.NAME:
        sys.stdout.write("".join(f"{o.id}\n" for o in report.outcomes if o.status == "failed"))
    else:
        _show(report, wide=mode is Mode.WIDE)
    if not report.ok:
        raise typer.Exit(exits.FAILED)


def _tell(session: Session, outcome: Outcome) -> None:
    """On a terminal, what is being done; it takes some seconds."""
    if sys.stderr.isatty():
        session.say(f"{outcome.status:7} {outcome.id}")


def _show(report: Report, *, wide: bool) -> None:
    rows = [[o.id, o.status.upper(), _cut(o.detail, wide), *([o.meaning] if wide else [])] for o in report.outcomes]
    show_table(["CHECK", "RESULT", "DETAIL", *(["MEANING"] if wide else [])], rows)
    for outcome in report.outcomes:
        if outcome.status in {"failed", "warned"}:
            sys.stdout.write(
                f"\n{outcome.id} {outcome.status.upper()}\n  means: {outcome.meaning}\n"
                f"  seen:  {_printable(outcome.detail)}\n  mend:  {outcome.mend}\n"
            )
    counts = ", ".join(f"{number} {status}" for status, number in report.counts().items() if number)
    sys.stdout.write(f"\n{report.plugin} {report.version}: {counts}\n")


def _cut(text: str, wide: bool) -> str:
    line = _printable(text.partition("\n")[0])
    return line if wide or len(line) <= _DETAIL else line[: _DETAIL - 1] + "…"


def _printable(text: str) -> str:
    """What a plugin said is shown, never obeyed by the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
