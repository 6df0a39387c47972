"""The three tables against the suite that every price table must pass, and the figures that people know."""

from datetime import date
from decimal import Decimal
from typing import ClassVar

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk.plugin.pricing import QuoteRequest, cents, months_of
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.pricing_contract import PriceTableContract
from hypersdk_pricing_object_storage import AwsS3, AzureBlob, GoogleCloudStorage

GB = 10**9
TB = 1000 * GB


class TestAwsS3(PriceTableContract):
    @pytest.fixture
    def table(self):
        return AwsS3()


class TestAzureBlob(PriceTableContract):
    @pytest.fixture
    def table(self):
        return AzureBlob()


class TestGoogleCloudStorage(PriceTableContract):
    @pytest.fixture
    def table(self):
        return GoogleCloudStorage()


class TestManifest(ManifestContract):
    distribution_name = "hypersdk-pricing-object-storage"
    package = "hypersdk_pricing_object_storage"
    good: ClassVar = {}
    bad: ClassVar = {}


@pytest.mark.parametrize(
    ("table", "storage_class", "total"),
    [(AwsS3(), "glacier", "48.00"), (AzureBlob(), "archive", "24.00"), (GoogleCloudStorage(), "archive", "14.40")],
)
def test_a_terabyte_in_the_archive_for_a_year_costs_what_the_vendors_say(table, storage_class, total):
    for months in (Decimal(12), months_of(365)):
        quote = table.quote(QuoteRequest(storage_class, stored_bytes=TB, months=months))
        assert quote.total == Decimal(total)
        assert (quote.currency, quote.warnings) == ("USD", ())


@pytest.mark.parametrize(
    ("table", "gigabytes", "total"),
    [
        (AwsS3(), 10_000, "900"), (AwsS3(), 50_000, "4300"), (AwsS3(), 200_000, "13800"),
        (AzureBlob(), 100, "0"), (AzureBlob(), 101, "0.087"), (AzureBlob(), 10_000, "861.3"),
        (GoogleCloudStorage(), 1_000, "120"), (GoogleCloudStorage(), 10_000, "1110"),
    ],
)  # fmt: skip
def test_egress_is_charged_by_volume(table, gigabytes, total):
    request = QuoteRequest(table.storage_classes()[0].id, egress_bytes=gigabytes * GB)
    assert table.quote(request).total == Decimal(total)


def test_requests_are_charged_by_the_thousand_and_in_fractions():
    quote = AwsS3().quote(QuoteRequest("standard", put_requests=1_500, get_requests=10_000))
    assert [(line.dimension, line.amount) for line in quote.lines] == [
        ("put", Decimal("0.0075")), ("get", Decimal("0.004")),
    ]  # fmt: skip


def test_reading_an_archive_is_not_free():
    quote = GoogleCloudStorage().quote(QuoteRequest("archive", retrieval_bytes=TB))
    assert quote.total == Decimal(50)


def test_early_deletion_is_a_line_of_its_own():
    quote = AwsS3().quote(QuoteRequest("glacier", stored_bytes=TB, months=months_of(30)))
    assert [cents(line.amount) for line in quote.lines] == [Decimal("3.95"), Decimal("7.89")]
    assert cents(quote.total) == Decimal("11.84")  # 90 days
    assert "90 days" in quote.warnings[0]


def test_what_has_no_price_is_told_and_not_counted():
    quote = AzureBlob().quote(QuoteRequest("hot", put_requests=1))
    assert quote.total == 0
    assert "no price for PUT requests" in quote.warnings[0]


def test_before_its_first_price_a_class_cannot_be_quoted():
    with pytest.raises(InvalidArgument) as refused:
        AwsS3().quote(QuoteRequest("standard", effective_date=date(2006, 3, 13)))
    assert refused.value.reason == "PRICE_REQUEST_INVALID"
