"""PricingService (proto/hypersdk/api/pricing/v1) on a PriceTable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from hypersdk.errors import InvalidArgument
from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.pricing import (
    DIMENSIONS,
    PriceRow,
    PriceTable,
    Quote,
    QuoteLine,
    QuoteRequest,
    months_of,
    plain,
    refused,
)

T = TypeVar("T")
_COUNTS = ("stored_bytes", "egress_bytes", "put_requests", "get_requests", "retrieval_bytes")


def _health(table: PriceTable, _call: Call) -> dict[str, Any]:
    return {"ok": True, "message": "", "latency_s": 0.0, "details": {"rows": str(len(table.rows()))}}


def _get_table(table: PriceTable, call: Call) -> dict[str, Any]:
    rows = _rows(table)
    return {
        "name": _name(call),
        "display_name": str(call.manifest.get("summary", "")),
        "currency_code": rows[0].currency,
        "regions": table.regions(),
        "default_region": result.text(table.default_region, "default_region"),
        "storage_classes": [
            {"id": c.id, "tier": _tier(c.tier), "minimum_days": c.minimum_days} for c in table.storage_classes()
        ],
        "effective_date": max(row.effective_date for row in rows).isoformat(),
    }


def _list_tables(table: PriceTable, call: Call) -> dict[str, Any]:
    """Its own one; the kernel joins those of all hosts."""
    return {"price_tables": [_get_table(table, call)], "next_page_token": ""}


def _list_prices(table: PriceTable, call: Call) -> dict[str, Any]:
    region, storage_class = call.text("region"), call.text("storage_class")
    rows = [
        row
        for row in _rows(table)
        if region in {"", row.region} and (not storage_class or row.storage_class in {"", storage_class})
    ]
    page, token = _page(rows, call)
    return {"prices": [_price(row, call) for row in page], "next_page_token": token}


def _estimate(table: PriceTable, call: Call) -> dict[str, Any]:
    request = _quote_request(call, call.text("storage_class"), call.text("region"))
    return _quote(result.instance_of(table.quote(request), Quote, "quote"), call)


def _compare(table: PriceTable, call: Call) -> dict[str, Any]:
    """An estimate for each class of the tier. What the table refuses is its answer and not the comparison's end."""
    wanted = call.text("tier")
    regions = call.message.get("regions") or {}
    region = str(regions.get(call.component.partition("/")[2], "")) if isinstance(regions, dict) else ""
    request = _quote_request(call, "", region)  # what is wrong for every table ends the call
    answers: list[dict[str, Any]] = []
    try:
        if region and region not in table.regions():
            text = f"{region[:80]!r} is none of {', '.join(table.regions())}"
            raise refused("region", text, "PRICE_REGION_UNKNOWN")
        for found in table.storage_classes(region):
            if wanted in {"", "ACCESS_TIER_UNSPECIFIED", _tier(found.tier)}:
                quote = table.quote(_quote_request(call, found.id, request.region))
                estimate = _quote(result.instance_of(quote, Quote, "quote"), call)
                answers.append({"table": _name(call), "estimate": estimate})
    except InvalidArgument as error:
        answers = [{"table": _name(call), "refusal": {"reason": error.reason, "message": error.message}}]
    page, token = _page(answers, call)
    return {"prices": page, "next_page_token": token}


METHODS: Mapping[str, Callable[[PriceTable, Call], dict[str, Any]]] = {
    "Health": _health,
    "ListPriceTables": _list_tables,
    "GetPriceTable": _get_table,
    "ListPrices": _list_prices,
    "Estimate": _estimate,
    "Compare": _compare,
}


def _name(call: Call) -> str:
    return f"prices/{call.component.partition('/')[2]}"


def _tier(tier: str) -> str:
    return f"ACCESS_TIER_{tier.upper() or 'UNSPECIFIED'}"


def _rows(table: PriceTable) -> Sequence[PriceRow]:
    rows = [result.instance_of(row, PriceRow, "rows") for row in table.rows()]
    if not rows:
        raise result.invalid("rows", "is empty")
    return rows


def _page(items: Sequence[T], call: Call) -> tuple[Sequence[T], str]:
    """Tokens are offsets: a table does not change while its host lives."""
    text = call.text("page_token")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidArgument(f"page token {text[:40]!r} is none of this list", reason="PAGE_TOKEN_INVALID")
    start = int(text or 0)
    end = start + call.page_size()
    return items[start:end], str(end) if end < len(items) else ""


def _quote_request(call: Call, storage_class: str, region: str) -> QuoteRequest:
    usage = call.message.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = {field: _count(usage.get(field, 0), field) for field in _COUNTS}
    if not {"days", "months"} & usage.keys():
        raise refused("usage.months", "or usage.days must tell for how long")
    months = months_of(_count(usage["days"], "days")) if "days" in usage else _decimal(usage["months"])
    day = call.text("effective_date")
    try:
        on = date.fromisoformat(day) if day else None
    except ValueError:
        raise refused("effective_date", f"{day[:20]!r} is no day; write YYYY-MM-DD") from None
    return QuoteRequest(storage_class=storage_class, region=region, months=months, effective_date=on, **counts)


def _count(value: Any, field: str) -> int:
    """proto3 JSON writes an int64 as a string."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise refused(f"usage.{field}", "must be a whole number") from None


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise refused("usage.months", "must be a decimal number") from None


def _money(value: object, field: str) -> str:
    number = result.instance_of(value, Decimal, field)
    if not number.is_finite():
        raise result.invalid(field, "is not a finite number")
    return plain(number)


def _dimension(value: str, field: str) -> str:
    if value not in DIMENSIONS:
        raise result.invalid(field, f"is {str(value)[:40]!r}, none of {', '.join(DIMENSIONS)}")
    return f"PRICE_DIMENSION_{value.upper()}"


def _price(row: PriceRow, call: Call) -> dict[str, Any]:
    return {
        "table": _name(call),
        "sku": result.text(row.sku, "row.sku"),
        "region": result.text(row.region, "row.region"),
        "storage_class": result.text(row.storage_class, "row.storage_class"),
        "tier": _tier(row.tier),
        "dimension": _dimension(row.dimension, "row.dimension"),
        "unit": result.text(row.unit, "row.unit"),
        "price": _money(row.price, "row.price"),
        "currency_code": result.text(row.currency, "row.currency"),
        "effective_date": row.effective_date.isoformat(),
        "source": result.text(row.source, "row.source"),
        "volume_from": _money(row.volume_from, "row.volume_from"),
        "volume_to": "" if row.volume_to is None else _money(row.volume_to, "row.volume_to"),
        "minimum_days": result.integer(row.minimum_days, "row.minimum_days", 0, result.INT32_MAX),
    }


def _quote(quote: Quote, call: Call) -> dict[str, Any]:
    return {
        "table": _name(call),
        "region": result.text(quote.region, "quote.region"),
        "storage_class": result.text(quote.storage_class, "quote.storage_class"),
        "tier": _tier(quote.tier),
        "lines": [_line(result.instance_of(line, QuoteLine, "quote.lines")) for line in quote.lines],
        "total": _money(quote.total, "quote.total"),
        "currency_code": result.text(quote.currency, "quote.currency"),
        "warnings": [result.text(text, "quote.warnings") for text in quote.warnings],
    }


def _line(line: QuoteLine) -> dict[str, Any]:
    return {
        "sku": result.text(line.sku, "line.sku"),
        "description": result.text(line.description, "line.description"),
        "dimension": _dimension(line.dimension, "line.dimension"),
        "quantity": _money(line.quantity, "line.quantity"),
        "unit": result.text(line.unit, "line.unit"),
        "unit_price": _money(line.unit_price, "line.unit_price"),
        "amount": _money(line.amount, "line.amount"),
        "effective_date": line.effective_date.isoformat(),
        "source": result.text(line.source, "line.source"),
    }
