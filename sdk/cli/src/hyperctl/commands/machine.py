"""hyperctl machine: what the platforms have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hyperctl import exits
from hyperctl.commands.common import (
    OutputOption,
    complete_connection,
    complete_machine,
    full_name,
    machine_name,
    mode_of,
)  # fmt: skip
from hyperctl.messages import enum_name
from hyperctl.output import Column, show_list, show_one
from hyperctl.session import Session
from hyperctl.units import format_bytes

if TYPE_CHECKING:
    from hypersdk.api.inventory.v1.inventory_pb2 import Machine

app = typer.Typer(help="Virtual machines of the connected platforms.")


def _power(machine: Machine) -> str:
    return enum_name(machine.DESCRIPTOR.fields_by_name["power_state"], machine.power_state)


def _size(machine: Machine) -> str:
    """Of all disks; unknown when one of them is."""
    sizes = [disk.size_bytes for disk in machine.disks]
    return format_bytes(-1 if any(size < 0 for size in sizes) else sum(sizes))


COLUMNS: list[Column[Machine]] = [
    Column("NAME", lambda m: m.name),
    Column("DISPLAY NAME", lambda m: m.display_name),
    Column("POWER", _power),
    Column("CPUS", lambda m: m.cpu_count or ""),
    Column("MEMORY", lambda m: format_bytes(m.memory_bytes) if m.memory_bytes else ""),
    Column("DISKS", lambda m: len(m.disks)),
    Column("SIZE", _size),
    Column("GUEST", lambda m: m.guest_os, wide=True),
    Column("PLATFORM ID", lambda m: m.platform_id, wide=True),
]


@app.command("list")
def list_machines(
    context: typer.Context,
    connection: Annotated[
        str, typer.Argument(metavar="[CONNECTION]", help="All if left out.", autocompletion=complete_connection)
    ] = "-",
    output: OutputOption = None,
) -> None:
    """List machines; exit status 3 when some connections did not answer."""
    session = Session.of(context)
    found = session.client.inventory.list_machines(full_name("connections", connection))
    show_list(found, COLUMNS, mode_of(session, output), empty="no machines")
    if found.unreachable:
        session.say(f"did not answer: {', '.join(found.unreachable)}\n  next: hyperctl connection test NAME")
        raise typer.Exit(exits.PARTIAL)


@app.command("get")
def get_machine(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="MACHINE", help="connections/x/machines/y, or x/y.", autocompletion=complete_machine
        ),
    ],
    output: OutputOption = None,
) -> None:
    """Show one machine with its disks."""
    session = Session.of(context)
    show_one(session.client.inventory.get_machine(machine_name(name)), mode_of(session, output))
