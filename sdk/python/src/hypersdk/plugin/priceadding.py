"""The arithmetic of PriceTable.quote: rows and a usage to lines and a total. Pure.

A volume is cut by the rows' volume tiers; each part is a line. Storage is charged for its time, and for what is missing
of a class's minimum duration as a line of its own, because early deletion costs it whether one likes it or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from hypersdk.plugin.pricing import (
    EXACT,
    MAX_MONTHS,
    UNITS,
    Dimension,
    PriceRow,
    Quote,
    QuoteLine,
    QuoteRequest,
    months_of,
    plain,
    refused,
)

_MAX_COUNT = (1 << 63) - 1
_USES: tuple[tuple[Dimension, str, str], ...] = (
    ("egress", "egress_bytes", "data out to the internet"),
    ("put", "put_requests", "PUT requests"),
    ("get", "get_requests", "GET requests"),
    ("retrieval", "retrieval_bytes", "data read out of the class"),
)


def add_up(rows: Sequence[PriceRow], request: QuoteRequest, default_region: str) -> Quote:
    """The quote of `request` by `rows`. Raises what PriceTable.quote says."""
    _check(request)
    region = request.region or default_region
    regions = sorted({row.region for row in rows if row.dimension == "storage"})
    if region not in regions:
        raise refused("region", f"{region[:80]!r} is none of {', '.join(regions)}", "PRICE_REGION_UNKNOWN")
    here = [row for row in rows if row.region == region]
    classes = sorted({row.storage_class for row in here if row.dimension == "storage"})
    if request.storage_class not in classes:
        named = f"{request.storage_class[:80]!r} is none of {', '.join(classes)}"
        raise refused("storage_class", named, "PRICE_CLASS_UNKNOWN")
    warnings: list[str] = []
    storage = _valid_on(here, request, "storage")
    if not storage:
        raise refused("effective_date", f"{request.effective_date} is before the first price of the class")
    lines = list(_storage_lines(storage, request, warnings))
    for dimension, field, words in _USES:
        count: int = getattr(request, field)
        valid = _valid_on(here, request, dimension)
        if count and not valid:
            warnings.append(f"the table has no price for {words} of {request.storage_class}; they are not in the total")
        lines += [_line(row, words, quantity) for row, quantity in _cut(valid, count) if quantity]
    total = Decimal(0)
    for line in lines:
        total = EXACT.add(total, line.amount)
    first = storage[0]
    return Quote(region, first.storage_class, first.tier, tuple(lines), total, first.currency, tuple(warnings))


def _check(request: QuoteRequest) -> None:
    for field in ("stored_bytes", *(field for _, field, _ in _USES)):
        count = getattr(request, field)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MAX_COUNT:
            raise refused(field, "must be a whole number from 0 to 2^63 - 1")
    months = request.months
    if not isinstance(months, Decimal) or not months.is_finite() or not 0 <= months <= MAX_MONTHS:
        raise refused("months", f"must be a decimal number from 0 to {MAX_MONTHS}")


def _valid_on(rows: Iterable[PriceRow], request: QuoteRequest, dimension: Dimension) -> list[PriceRow]:
    """The rows of one dimension that hold on the day: those of the class if it has its own, else those of all."""
    fitting = [
        row
        for row in rows
        if row.dimension == dimension
        and row.storage_class in {request.storage_class, ""}
        and (request.effective_date is None or row.effective_date <= request.effective_date)
    ]
    own = [row for row in fitting if row.storage_class] or fitting
    newest = max((row.effective_date for row in own), default=None)
    return sorted((row for row in own if row.effective_date == newest), key=lambda row: row.volume_from)


def _storage_lines(rows: Sequence[PriceRow], request: QuoteRequest, warnings: list[str]) -> Iterator[QuoteLine]:
    minimum_days = max(row.minimum_days for row in rows)
    missing = EXACT.subtract(months_of(minimum_days), request.months)
    early = bool(minimum_days and request.stored_bytes and missing > 0)
    parts = list(_cut(rows, request.stored_bytes))
    for row, volume in parts:
        quantity = EXACT.multiply(volume, request.months)
        if quantity:
            yield _line(row, f"storage, {plain(volume)} {row.unit.removesuffix('-month')}", quantity)
    if early:
        warnings.append(
            f"{rows[0].storage_class} is charged for at least {minimum_days} days; what is missing is in the total"
        )
        for row, volume in parts:
            yield _line(row, f"early deletion, up to {minimum_days} days", EXACT.multiply(volume, missing))


def _cut(rows: Sequence[PriceRow], count: int) -> Iterator[tuple[PriceRow, Decimal]]:
    """The units of `count` bytes or requests that fall to each row."""
    for row in rows:
        size = UNITS[row.unit][1]
        by_requests = UNITS[row.unit][0] == ("put", "get")
        scale = Decimal(1 if by_requests else size)  # volumes are told in GB or in single requests
        volume = EXACT.divide(Decimal(count), scale)
        upper = volume if row.volume_to is None else min(volume, row.volume_to)
        part = EXACT.subtract(upper, row.volume_from)
        if part > 0:
            yield row, EXACT.divide(part, Decimal(size)) if by_requests else part


def _line(row: PriceRow, description: str, quantity: Decimal) -> QuoteLine:
    return QuoteLine(
        sku=row.sku,
        description=description,
        dimension=row.dimension,
        quantity=quantity,
        unit=row.unit,
        unit_price=row.price,
        amount=EXACT.multiply(quantity, row.price),
        effective_date=row.effective_date,
        source=row.source,
    )
