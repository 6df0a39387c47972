"""hyperctl price: price tables, and what it costs to keep and move bytes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from hypersdk.errors import InvalidArgument

from hyperctl import exits
from hyperctl.commands.common import OutputOption, completer, full_name, mode_of
from hyperctl.output import Column, Mode, show_list, show_one
from hyperctl.session import Session
from hyperctl.units import parse_size

if TYPE_CHECKING:
    from hypersdk.api.pricing.v1.pricing_pb2 import ComparedPrice, EstimateLine, Price, PriceEstimate, PriceTable, Usage
    from hypersdk.client.blocking.pager import Pager

app = typer.Typer(help="Prices of storage, and estimates by them.")
complete_table = completer(lambda s: iter(s.client.pricing.list_tables()), "prices")

TableArgument = Annotated[str, typer.Argument(metavar="TABLE", autocompletion=complete_table)]
StoredOption = Annotated[str, typer.Option("--stored", help="Bytes kept: 1TB (10^12), 1TiB (2^40).")]
MonthsOption = Annotated[str, typer.Option("--months", help="For so many months, may be a fraction.")]
DaysOption = Annotated[int | None, typer.Option("--days", min=0, help="For so many days, instead of --months.")]
EgressOption = Annotated[str, typer.Option("--egress", help="Bytes out to the internet.")]
RetrievalOption = Annotated[str, typer.Option("--retrieval", help="Bytes read out of the class.")]
PutsOption = Annotated[int, typer.Option("--puts", min=0, help="PUT requests.")]
GetsOption = Annotated[int, typer.Option("--gets", min=0, help="GET requests.")]
DateOption = Annotated[str, typer.Option("--date", help="By the prices of that day, YYYY-MM-DD.")]

PRICES: list[Column[Price]] = [
    Column("TABLE", lambda p: p.table),
    Column("REGION", lambda p: p.region),
    Column("CLASS", lambda p: p.storage_class or "(all)"),
    Column("DIMENSION", lambda p: _word(p, "dimension")),
    Column("VOLUME", lambda p: f"{p.volume_from}-{p.volume_to}" if p.volume_to or p.volume_from != "0" else ""),
    Column("PRICE", lambda p: p.price),
    Column("UNIT", lambda p: f"{p.currency_code}/{p.unit}"),
    Column("MIN DAYS", lambda p: p.minimum_days or ""),
    Column("SINCE", lambda p: p.effective_date),
    Column("SKU", lambda p: p.sku, wide=True),
    Column("SOURCE", lambda p: p.source, wide=True),
]
TABLES: list[Column[PriceTable]] = [
    Column("NAME", lambda t: t.name),
    Column("DISPLAY NAME", lambda t: t.display_name),
    Column("CURRENCY", lambda t: t.currency_code),
    Column("REGIONS", lambda t: ",".join(t.regions)),
    Column("CLASSES", lambda t: ",".join(c.id for c in t.storage_classes)),
    Column("NEWEST", lambda t: t.effective_date),
]
LINES: list[Column[EstimateLine]] = [
    Column("WHAT", lambda e: e.description),
    Column("QUANTITY", lambda e: _short(e.quantity)),
    Column("UNIT", lambda e: e.unit),
    Column("PRICE", lambda e: e.unit_price),
    Column("AMOUNT", lambda e: _cents(e.amount)),
    Column("SKU", lambda e: e.sku, wide=True),
    Column("SINCE", lambda e: e.effective_date, wide=True),
    Column("SOURCE", lambda e: e.source, wide=True),
]
COMPARED: list[Column[ComparedPrice]] = [
    Column("TABLE", lambda c: c.table),
    Column("REGION", lambda c: c.estimate.region),
    Column("CLASS", lambda c: c.estimate.storage_class),
    Column("TIER", lambda c: _word(c.estimate, "tier") if c.HasField("estimate") else ""),
    Column("TOTAL", lambda c: _shown(c.estimate) if c.HasField("estimate") else ""),
    Column("NOTE", lambda c: c.refusal.message or "; ".join(c.estimate.warnings)),
]


@app.command("list")
def list_prices(
    context: typer.Context,
    table: Annotated[str, typer.Argument(metavar="[TABLE]", autocompletion=complete_table)] = "",
    region: Annotated[str, typer.Option(help="Only this region.")] = "",
    storage_class: Annotated[str, typer.Option("--class", help="Only what holds for this class.")] = "",
    output: OutputOption = None,
) -> None:
    """List the price tables, or the rows of one (`-` for those of all)."""
    session = Session.of(context)
    if not table:
        tables = session.client.pricing.list_tables()
        show_list(tables, TABLES, mode_of(session, output), empty="no price tables; install a pricing plugin")
        _tell_unreachable(session, tables)
        return
    rows = session.client.pricing.list(full_name("prices", table), region=region, storage_class=storage_class)
    show_list(rows, PRICES, mode_of(session, output), empty="no such prices")
    _tell_unreachable(session, rows)


@app.command("estimate")
def estimate(
    context: typer.Context,
    table: TableArgument,
    storage_class: Annotated[str, typer.Option("--class", help="The storage class: glacier, nearline.")],
    stored: StoredOption = "0",
    months: MonthsOption = "1",
    days: DaysOption = None,
    egress: EgressOption = "0",
    retrieval: RetrievalOption = "0",
    puts: PutsOption = 0,
    gets: GetsOption = 0,
    region: Annotated[str, typer.Option(help="The table's default, if left out.")] = "",
    date: DateOption = "",
    output: OutputOption = None,
) -> None:
    """Tell what a usage costs in one class. Exact with `-o json`; tables round to cents, half to even."""
    session = Session.of(context)
    found = session.client.pricing.estimate(
        full_name("prices", table),
        storage_class,
        _usage(stored, months, days, egress, retrieval, puts, gets),
        region=region,
        effective_date=date,
    )
    mode = mode_of(session, output)
    if mode not in {Mode.TABLE, Mode.WIDE}:
        show_one(found, mode)
        return
    from hypersdk.api.pricing.v1.pricing_pb2 import EstimateLine

    total = EstimateLine(description="total", unit=found.currency_code, amount=found.total)
    show_list([*found.lines, total], LINES, mode)
    for warning in found.warnings:
        session.say(f"note: {warning}")


@app.command("compare")
def compare(
    context: typer.Context,
    tier: Annotated[str, typer.Option(help="hot, cool, cold, archive or deep-archive; all if left out.")] = "",
    stored: StoredOption = "0",
    months: MonthsOption = "1",
    days: DaysOption = None,
    egress: EgressOption = "0",
    retrieval: RetrievalOption = "0",
    puts: PutsOption = 0,
    gets: GetsOption = 0,
    region: Annotated[list[str] | None, typer.Option(help="TABLE=REGION; repeatable.")] = None,
    date: DateOption = "",
    output: OutputOption = None,
) -> None:
    """Tell what a usage costs by every table, the cheapest first. Exit status 3 when a table did not answer."""
    session = Session.of(context)
    pager = session.client.pricing.compare(
        _usage(stored, months, days, egress, retrieval, puts, gets),
        tier=_tier(tier),
        regions=dict(_region(text) for text in region or ()),
        effective_date=date,
    )
    show_list(sorted(pager, key=_cheapness), COMPARED, mode_of(session, output), empty="no table has such a class")
    _tell_unreachable(session, pager)


def _usage(stored: str, months: str, days: int | None, egress: str, retrieval: str, puts: int, gets: int) -> Usage:
    from hypersdk.api.pricing.v1.pricing_pb2 import Usage

    usage = Usage(
        stored_bytes=parse_size(stored),
        egress_bytes=parse_size(egress),
        retrieval_bytes=parse_size(retrieval),
        put_requests=puts,
        get_requests=gets,
    )
    if days is None:
        usage.months = months
    else:
        usage.days = days
    return usage


def _tier(text: str) -> int:
    from hypersdk.api.pricing.v1.pricing_pb2 import AccessTier

    name = f"ACCESS_TIER_{text.replace('-', '_').upper() or 'UNSPECIFIED'}"
    if name not in AccessTier.DESCRIPTOR.values_by_name:
        tiers = ", ".join(t.removeprefix("ACCESS_TIER_").replace("_", "-").lower() for t in list(AccessTier.keys())[1:])
        raise InvalidArgument(f"{text[:40]!r} is no tier; there are {tiers}", reason="VALUE_INVALID")
    return int(AccessTier.Value(name))


def _region(text: str) -> tuple[str, str]:
    table, equals, region = text.partition("=")
    if not equals:
        raise InvalidArgument(f"{text[:40]!r}: write TABLE=REGION, as in aws-s3=us-east-1", reason="VALUE_INVALID")
    return table.removeprefix("prices/"), region


def _cheapness(item: ComparedPrice) -> tuple[bool, str, Decimal, str]:
    """By currency, then by total; what has no estimate at the end."""
    total = Decimal(item.estimate.total or 0)
    return (not item.HasField("estimate"), item.estimate.currency_code, total, item.table)


def _shown(estimate: PriceEstimate) -> str:
    return f"{_cents(estimate.total)} {estimate.currency_code}"


def _cents(text: str) -> str:
    """Two places, rounded half to even, which is Decimal's own way."""
    return f"{Decimal(text):.2f}"


def _short(text: str) -> str:
    return text if len(text) <= 12 else f"{Decimal(text):.6f}".rstrip("0").rstrip(".")


def _word(message: Price | PriceEstimate, field: str) -> str:
    """An enum's value without its type's prefix: ACCESS_TIER_DEEP_ARCHIVE is `deep-archive`."""
    from hypersdk.api.pricing.v1.pricing_pb2 import AccessTier, PriceDimension

    enum, prefix = (AccessTier, "ACCESS_TIER_") if field == "tier" else (PriceDimension, "PRICE_DIMENSION_")
    return str(enum.Name(getattr(message, field))).removeprefix(prefix).replace("_", "-").lower()


def _tell_unreachable(session: Session, pager: Pager[Any, Any]) -> None:
    if pager.unreachable:
        session.say(f"did not answer: {', '.join(pager.unreachable)}\n  next: hyperctl plugin list -o wide")
        raise typer.Exit(exits.PARTIAL)
