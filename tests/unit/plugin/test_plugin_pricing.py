"""Price rows from text, and how they are added up."""

from datetime import date
from decimal import Decimal

import pytest
from hypersdk.errors import Internal, InvalidArgument
from hypersdk.plugin import PriceTable, QuoteRequest, read_rows
from hypersdk.plugin.pricing import cents, months_of, plain
from hypothesis import given
from hypothesis import strategies as st

HEAD = (
    "sku,region,storage_class,tier,dimension,unit,price,currency,effective_date,"
    "volume_from,volume_to,minimum_days,source\n"
)
GOOD = HEAD + (
    "a,here,cold,cold,storage,GiB-month,0.01,EUR,2025-01-01,,100,30,a page\n"
    "a2,here,cold,cold,storage,GiB-month,0.005,EUR,2025-01-01,100,,30,a page\n"
    "b,here,cold,cold,storage,GiB-month,0.02,EUR,2024-01-01,,,0,an older page\n"
    "c,here,,,egress,GiB,0.1,EUR,2025-01-01,,,,a page\n"
    "d,here,cold,,put,1000 requests,0.5,EUR,2025-01-01,,10000,,a page\n"
    "e,here,cold,,put,1000 requests,0.1,EUR,2025-01-01,10000,,,a page\n"
)


class Table(PriceTable):
    default_region = "here"

    def rows(self):
        return read_rows(GOOD)


def test_volume_tiers_cut_what_is_stored():
    quote = Table().quote(QuoteRequest("cold", stored_bytes=150 << 30, months=Decimal(2)))
    assert [line.amount for line in quote.lines] == [Decimal(2), Decimal("0.5")]


def test_volume_tiers_of_requests_are_told_in_single_requests():
    quote = Table().quote(QuoteRequest("cold", put_requests=15_000))
    assert [(line.quantity, line.amount) for line in quote.lines] == [(10, 5), (5, Decimal("0.5"))]


def test_an_earlier_day_has_the_prices_of_that_day():
    quote = Table().quote(QuoteRequest("cold", stored_bytes=1 << 30, effective_date=date(2024, 6, 1)))
    assert quote.total == Decimal("0.02")
    assert quote.lines[0].source == "an older page"


def test_a_class_has_its_newest_minimum():
    assert [(c.id, c.minimum_days) for c in Table().storage_classes()] == [("cold", 30)]


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("", "columns"),
        (HEAD, "one currency"),
        ("sku,price\n1,2\n", "columns"),
        (HEAD.replace("sku", "sku,colour"), "columns"),
        (GOOD + "f,here\n", "as many fields"),
        (GOOD + "f,here,cold,,get,GB,1,EUR,2025-01-01,,,,x\n", "does not measure"),
        (GOOD + "f,here,cold,,get,request,-1,EUR,2025-01-01,,,,x\n", "not negative"),
        (GOOD + "f,here,cold,,get,request,NaN,EUR,2025-01-01,,,,x\n", "must be a number"),
        (GOOD + "f,here,cold,,get,request,one,EUR,2025-01-01,,,,x\n", "sku 'f'"),
        (GOOD + "f,here,cold,,get,request,1,EUR,yesterday,,,,x\n", "sku 'f'"),
        (GOOD + "f,here,cold,,get,request,1,EUR,2025-01-01,,,,\n", "source"),
        (GOOD + "f,here,cold,,get,request,1,USD,2025-01-01,,,,x\n", "one currency"),
        (GOOD + "f,here,cold,,get,request,1,EUR,2025-01-01,5,,,x\n", "begin at 0"),
        (GOOD + "f,here,cold,,get,request,1,EUR,2025-01-01,,5,,x\n", "no end"),
        (GOOD + "f,here,cold,warm,storage,GB-month,1,EUR,2025-01-01,,,,x\n", "tier"),
        (GOOD + "f,here,cold,hot,get,request,1,EUR,2025-01-01,,,,x\n", "tier"),
        (GOOD + 'f,here,"cold,hot\n', "price table"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_by_name(wrong, what):
    with pytest.raises(Internal, match=what) as refused:
        read_rows(wrong)
    assert refused.value.reason == "PRICE_TABLE_INVALID"


def test_a_day_before_the_first_price_is_refused():
    with pytest.raises(InvalidArgument):
        Table().quote(QuoteRequest("cold", effective_date=date(1999, 1, 1)))


@given(st.decimals(0, 10**9, places=9))
def test_plain_text_is_the_same_number_without_exponent(value):
    assert Decimal(plain(value)) == value
    assert "E" not in plain(value)


def test_cents_are_rounded_half_to_even():
    shown = [str(cents(Decimal(text))) for text in ("0.005", "0.015", "0.025", "48")]
    assert shown == ["0.00", "0.02", "0.02", "48.00"]


def test_a_year_of_days_is_twelve_months():
    assert months_of(365) == 12
