"""Price rows from CSV text, so that a table is data beside the plugin's code, checked when it is read.

The first line names the columns: the fields of PriceRow. `storage_class`, `tier`, `volume_from`, `volume_to` and
`minimum_days` may be empty; a column that only holds defaults may be left out. A line that starts with `#` is a
comment.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Any, get_args

from hypersdk.errors import Internal
from hypersdk.plugin.pricing import DIMENSIONS, UNITS, PriceRow, Tier

_REQUIRED = frozenset({"sku", "region", "dimension", "unit", "price", "currency", "effective_date", "source"})
_OPTIONAL = frozenset({"storage_class", "tier", "volume_from", "volume_to", "minimum_days"})


def read_rows(text: str) -> tuple[PriceRow, ...]:
    """The rows, in order of `PriceRow.sort_key`. Raises Internal (PRICE_TABLE_INVALID) that names the line: such a
    table is a defect of its plugin."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(lines, strict=True)
    columns = set(reader.fieldnames or ())
    if not columns >= _REQUIRED or not columns <= _REQUIRED | _OPTIONAL:
        raise _invalid(f"the columns must be {', '.join(sorted(_REQUIRED))}, and of {', '.join(sorted(_OPTIONAL))}")
    try:
        rows = sorted((_row(record) for record in reader), key=PriceRow.sort_key)
    except csv.Error as exc:
        raise _invalid(str(exc)) from exc
    for fault in _volume_faults(rows):
        raise _invalid(fault)
    if len({row.currency for row in rows}) != 1:
        raise _invalid("all rows must be of one currency, and there must be rows")
    return tuple(rows)


def _row(record: dict[str, Any]) -> PriceRow:
    shown = f"row of sku {record.get('sku')!r}"
    if None in record or None in record.values():
        raise _invalid(f"{shown}: has not as many fields as there are columns")
    dimension, unit, tier = record["dimension"], record["unit"], record.get("tier", "")
    if dimension not in DIMENSIONS or dimension not in UNITS.get(unit, ((), 0))[0]:
        raise _invalid(f"{shown}: the unit {unit!r} does not measure the dimension {dimension!r}")
    if tier not in get_args(Tier) or bool(tier) != (dimension == "storage"):
        raise _invalid(f"{shown}: tier {tier!r} must be one of {', '.join(get_args(Tier)[1:])} for storage, else empty")
    if not record["sku"] or not record["region"] or not record["source"] or len(record["currency"]) != 3:
        raise _invalid(f"{shown}: sku, region, source and a currency of three letters are needed")
    try:
        return PriceRow(
            sku=record["sku"],
            region=record["region"],
            storage_class=record.get("storage_class", ""),
            dimension=dimension,
            unit=unit,
            price=_number(record["price"]),
            currency=record["currency"],
            effective_date=date.fromisoformat(record["effective_date"]),
            source=record["source"],
            tier=tier,
            volume_from=_number(record.get("volume_from") or "0"),
            volume_to=_number(record["volume_to"]) if record.get("volume_to") else None,
            minimum_days=int(record.get("minimum_days") or 0),
        )
    except (ValueError, InvalidOperation) as exc:
        raise _invalid(f"{shown}: {exc}") from exc


def _number(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite() or value < 0:
        raise ValueError(f"{text!r} must be a number and not negative")
    return value


def _volume_faults(rows: list[PriceRow]) -> Iterator[str]:
    def key(row: PriceRow) -> tuple[Any, ...]:
        return row.sort_key()[:4]

    for place, group in groupby(rows, key):
        end: Decimal | None = Decimal(0)
        for row in group:
            if row.volume_from != end:
                yield f"volumes of {place[0]} {place[1]} {row.dimension} must begin at 0 and join without gap"
            end = row.volume_to
        if end is not None:
            yield f"the last volume of {place[0]} {place[1]} {row.dimension} must have no end"


def _invalid(text: str) -> Internal:
    return Internal(f"price table: {text}", reason="PRICE_TABLE_INVALID")
