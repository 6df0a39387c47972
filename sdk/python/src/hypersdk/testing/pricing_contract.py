"""PriceTableContract: what every implementation of `hypersdk.plugin.PriceTable` must keep.

Not here: whether the prices are right, which only their source can tell.
"""

from __future__ import annotations

import dataclasses
import re
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest

from hypersdk.errors import InvalidArgument
from hypersdk.plugin.pricing import DIMENSIONS, EXACT, TIERS, UNITS, PriceRow, PriceTable, QuoteRequest

_GB = 10**9
_SIZES = (0, 1, _GB, 99 * _GB, 100 * _GB, 101 * _GB, 10_000 * _GB, 60_000 * _GB, 10**15, 10**18)


class PriceTableContract:
    """Subclass it and give one fixture:

    table    a new PriceTable at each call
    """

    @pytest.fixture
    def table(self) -> PriceTable:
        raise NotImplementedError("give a `table` fixture in the subclass")

    def requests(self, table: PriceTable) -> list[QuoteRequest]:
        """A request of everything for each region and class."""
        return [
            QuoteRequest(c.id, region, 5_000 * _GB, Decimal("1.5"), 300 * _GB, 12_345, 67_890, 1_000 * _GB)
            for region in table.regions()
            for c in table.storage_classes(region)
        ]

    def test_rows_are_dated_and_sourced(self, table: PriceTable) -> None:
        """A price without a day and a place where it was read cannot be checked. Mend: fill `effective_date` and
        `source` of every row; a day in the future is no price yet."""
        for row in table.rows():
            assert isinstance(row.effective_date, date), row
            assert row.source.strip(), row
            assert row.sku, row

    def test_rows_measure_what_they_say(self, table: PriceTable) -> None:
        """Mend: a unit of UNITS that fits the dimension, a tier and minimum days on storage rows only."""
        for row in table.rows():
            assert row.dimension in DIMENSIONS, row
            assert row.unit in UNITS, row
            assert row.dimension in UNITS[row.unit][0], row
            assert (row.tier in TIERS) == (row.dimension == "storage"), row
            assert row.minimum_days >= 0, row

    def test_prices_are_decimals_of_one_currency(self, table: PriceTable) -> None:
        """A float cannot hold 0.1. Mend: Decimal("0.023"), from text, and one currency a table."""
        rows = table.rows()
        assert rows, "the table is empty"
        assert all(isinstance(row.price, Decimal) and row.price.is_finite() and row.price >= 0 for row in rows)
        assert len({row.currency for row in rows}) == 1
        assert re.fullmatch(r"[A-Z]{3}", rows[0].currency)

    def test_rows_are_in_order_and_the_same_each_time(self, table: PriceTable) -> None:
        """Pages are cut out of this list. Mend: sort by PriceRow.sort_key, once."""
        rows = list(table.rows())
        assert rows == sorted(rows, key=PriceRow.sort_key)
        assert rows == list(table.rows())

    def test_volumes_join_without_gap_or_overlap(self, table: PriceTable) -> None:
        """Mend: begin at 0, let each `volume_from` be the `volume_to` before it, leave the last open."""
        for place, group in groupby(table.rows(), lambda row: row.sort_key()[:4]):
            ends = [Decimal(0)]
            for row in group:
                assert row.volume_from == ends[-1], f"{place}: {row}"
                ends.append(row.volume_to if row.volume_to is not None else Decimal("Infinity"))
            assert ends[-1] == Decimal("Infinity"), place

    def test_the_default_region_has_classes(self, table: PriceTable) -> None:
        """Mend: `default_region` is one of `regions()`."""
        assert table.default_region in table.regions()
        assert table.storage_classes() == table.storage_classes(table.default_region) != []

    def test_a_quote_is_the_exact_sum_of_its_lines(self, table: PriceTable) -> None:
        """Mend: amount = quantity × unit price in Decimal, rounded nowhere."""
        for request in self.requests(table):
            quote = table.quote(request)
            assert _same(quote.total, [line.amount for line in quote.lines])
            for line in quote.lines:
                assert isinstance(line.amount, Decimal)
                assert _same(line.amount, [EXACT.multiply(line.quantity, line.unit_price)]), line
            assert (quote.region, quote.storage_class) == (request.region, request.storage_class)

    def test_a_quote_is_pure(self, table: PriceTable) -> None:
        """The same question has the same answer, and asking changes nothing. Mend: no clock, no cache that shows."""
        before = list(table.rows())
        for request in self.requests(table):
            assert table.quote(request) == table.quote(dataclasses.replace(request))
        assert list(table.rows()) == before

    def test_nothing_costs_nothing(self, table: PriceTable) -> None:
        """Mend: no fixed fee; no line for a quantity of 0."""
        for request in self.requests(table):
            nothing = QuoteRequest(request.storage_class, request.region)
            assert table.quote(nothing).total == 0
            assert table.quote(nothing).lines == ()

    @pytest.mark.parametrize("field", ["stored_bytes", "egress_bytes", "retrieval_bytes", "put_requests"])
    def test_more_never_costs_less(self, table: PriceTable, field: str) -> None:
        """Mend: a cheaper volume tier holds for what is above its start, not for everything below it too."""
        for request in self.requests(table):
            base = QuoteRequest(request.storage_class, request.region)
            sizes: list[dict[str, Any]] = [{field: size} for size in _SIZES]
            totals = [table.quote(dataclasses.replace(base, **size)).total for size in sizes]
            assert totals == sorted(totals), (request.storage_class, field)

    def test_a_longer_time_never_costs_less(self, table: PriceTable) -> None:
        """Mend: charge max(time, minimum duration)."""
        times = [Decimal(text) for text in ("0.01", "0.5", "1", "1.01", "3", "6", "12", "12.5", "1200")]
        for request in self.requests(table):
            totals = [table.quote(dataclasses.replace(request, months=months)).total for months in times]
            assert totals == sorted(totals), request.storage_class

    def test_a_minimum_duration_is_charged_and_told(self, table: PriceTable) -> None:
        """Mend: a line for what is missing of `minimum_days`, and a warning that says so."""
        for region in table.regions():
            for found in table.storage_classes(region):
                short = QuoteRequest(found.id, region, stored_bytes=_GB, months=Decimal("0.001"))
                quote = table.quote(short)
                assert bool(quote.warnings) == (found.minimum_days > 0), found
                if found.minimum_days:
                    per_day = table.quote(dataclasses.replace(short, months=Decimal(1200))).total / 1200 * 12 / 365
                    assert abs(quote.total - per_day * found.minimum_days) < quote.total / 1000

    def test_an_unknown_class_or_region_is_refused(self, table: PriceTable) -> None:
        """Mend: InvalidArgument PRICE_CLASS_UNKNOWN or PRICE_REGION_UNKNOWN that names what there is."""
        known = table.storage_classes()[0].id
        with pytest.raises(InvalidArgument) as refused:
            table.quote(QuoteRequest("no-such-class"))
        assert refused.value.reason == "PRICE_CLASS_UNKNOWN"
        assert known in refused.value.message
        with pytest.raises(InvalidArgument) as refused:
            table.quote(QuoteRequest(known, region="nowhere-1"))
        assert refused.value.reason == "PRICE_REGION_UNKNOWN"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"stored_bytes": -1}, {"egress_bytes": -1}, {"put_requests": 1 << 63}, {"get_requests": True},
            {"months": Decimal(-1)}, {"months": Decimal("NaN")}, {"months": Decimal(1201)}, {"months": 1.5},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_cannot_be_priced_is_refused(self, table: PriceTable, wrong: dict[str, Any]) -> None:
        """Mend: check the request before adding up: InvalidArgument PRICE_REQUEST_INVALID."""
        request = QuoteRequest(table.storage_classes()[0].id)
        with pytest.raises(InvalidArgument) as refused:
            table.quote(dataclasses.replace(request, **wrong))
        assert refused.value.reason == "PRICE_REQUEST_INVALID"


def _same(total: Decimal, parts: list[Decimal]) -> bool:
    """Equal but for what days turned to months lose in their last digits."""
    exact = Decimal(0)
    for part in parts:
        exact = EXACT.add(exact, part)
    return abs(EXACT.subtract(total, exact)) <= EXACT.multiply(exact, Decimal("1e-20"))
