"""PricingService through the daemon's face, as client and command line see it."""

import json
from decimal import Decimal

import pytest
from google.protobuf.json_format import MessageToDict
from hyperctl.__main__ import main
from hypersdk.api.pricing.v1 import pricing_pb2
from hypersdk.client import Client
from hypersdk.errors import InvalidArgument, NotFound

TERABYTE_YEAR = pricing_pb2.Usage(stored_bytes=10**12, months="12")
ARCHIVE = pricing_pb2.ACCESS_TIER_ARCHIVE


@pytest.fixture(scope="session")
def address(daemon):
    return f"unix:{daemon.state}/hypersdkd.sock"


@pytest.fixture
def client(address):
    with Client(address) as client:
        yield client


@pytest.fixture
def hyperctl(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERSDK_ADDRESS", address)

    def run(*arguments):
        status = main(list(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_archives_of_three_vendors_cost_what_they_say(client):
    found = client.pricing.compare(TERABYTE_YEAR, tier=ARCHIVE)
    assert {c.table: (c.estimate.total, c.estimate.currency_code) for c in found} == {
        "prices/aws-s3": ("48", "USD"), "prices/azure-blob": ("24", "USD"), "prices/gcs": ("14.4", "USD"),
    }  # fmt: skip


def test_a_comparison_comes_in_pages(client):
    whole = [MessageToDict(c) for c in client.pricing.compare(TERABYTE_YEAR)]
    assert len(whole) == 5 + 3 + 4
    assert [MessageToDict(c) for c in client.pricing.compare(TERABYTE_YEAR, page_size=2)] == whole


def test_a_table_that_cannot_tell_says_why_beside_those_that_can(client):
    found = list(client.pricing.compare(TERABYTE_YEAR, tier=ARCHIVE, regions={"gcs": "the-moon"}))
    refused = {c.table: c.refusal.reason for c in found if c.HasField("refusal")}
    assert refused == {"prices/gcs": "PRICE_REGION_UNKNOWN"}
    assert sum(c.HasField("estimate") for c in found) == 2


def test_the_lines_of_an_estimate_make_its_total_and_name_their_source(client):
    usage = pricing_pb2.Usage(stored_bytes=123_456_789_012, days=45, egress_bytes=987_654_321, get_requests=1001)
    found = client.pricing.estimate("prices/aws-s3", "standard", usage)
    assert sum(Decimal(line.amount) for line in found.lines).quantize(Decimal("1e-20")) == Decimal(
        found.total
    ).quantize(Decimal("1e-20"))
    assert all(line.effective_date and line.source for line in found.lines)
    assert found.region == "us-east-1"


def test_rows_of_all_tables_are_listed_in_order_page_by_page(client):
    rows = list(client.pricing.list(page_size=7))
    tables = [row.table for row in rows]
    assert tables == sorted(tables)
    assert set(tables) == {"prices/aws-s3", "prices/azure-blob", "prices/gcs"}
    assert len(rows) == len(list(client.pricing.list())) > 30
    assert all(row.source and row.effective_date and Decimal(row.price) >= 0 for row in rows)
    assert {row.storage_class for row in client.pricing.list("prices/gcs", storage_class="archive")} == {"", "archive"}


def test_a_table_tells_its_classes(client):
    table = client.pricing.get_table("prices/gcs")
    assert [c.id for c in table.storage_classes] == ["standard", "nearline", "coldline", "archive"]
    assert table.storage_classes[3].minimum_days == 365
    assert table.currency_code == "USD"


@pytest.mark.parametrize(
    ("name", "storage_class", "usage", "error", "reason"),
    [
        ("prices/aws-s3", "archive", TERABYTE_YEAR, InvalidArgument, "PRICE_CLASS_UNKNOWN"),
        ("prices/nobody", "archive", TERABYTE_YEAR, NotFound, "COMPONENT_UNKNOWN"),
        ("prices/-", "archive", TERABYTE_YEAR, InvalidArgument, "FIELD_INVALID"),
        ("pricings/aws-s3", "archive", TERABYTE_YEAR, InvalidArgument, "FIELD_INVALID"),
        ("prices/aws-s3", "glacier", pricing_pb2.Usage(stored_bytes=1), InvalidArgument, "FIELD_INVALID"),
        ("prices/aws-s3", "glacier", pricing_pb2.Usage(stored_bytes=-1, days=1), InvalidArgument, "FIELD_INVALID"),
        ("prices/aws-s3", "glacier", pricing_pb2.Usage(months="1e5"), InvalidArgument, "FIELD_INVALID"),
        ("prices/aws-s3", "glacier", pricing_pb2.Usage(months="9999"), InvalidArgument, "PRICE_REQUEST_INVALID"),
        ("prices/aws-s3", "", TERABYTE_YEAR, InvalidArgument, "FIELD_INVALID"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused(client, name, storage_class, usage, error, reason):
    with pytest.raises(error) as refused:
        client.pricing.estimate(name, storage_class, usage)
    assert refused.value.reason == reason


def test_no_such_day_is_refused(client):
    with pytest.raises(InvalidArgument) as refused:
        client.pricing.estimate("prices/gcs", "archive", TERABYTE_YEAR, effective_date="2026-02-30")
    assert refused.value.reason == "PRICE_REQUEST_INVALID"


def test_the_command_line_compares_cheapest_first(hyperctl):
    status, out, _ = hyperctl("price", "compare", "--tier", "archive", "--stored", "1TB", "--months", "12")
    assert status == 0
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[4] for row in rows] == ["14.40", "24.00", "48.00"]


def test_the_command_line_rounds_for_people_and_not_for_programs(hyperctl):
    arguments = ("price", "estimate", "aws-s3", "--class", "glacier", "--stored", "1234567890", "--days", "30")
    status, out, err = hyperctl(*arguments)
    assert status == 0
    assert out.splitlines()[-1].split() == ["total", "-", "USD", "-", "0.01"]
    assert "90 days" in err
    exact = json.loads(hyperctl(*arguments, "-o", "json")[1])
    assert exact["total"].startswith("0.0146")


def test_the_command_line_lists_tables_and_rows(hyperctl):
    assert "prices/azure-blob" in hyperctl("price", "list")[1]
    assert "glacier" in hyperctl("price", "list", "aws-s3", "--class", "glacier")[1]
    assert hyperctl("price", "compare", "--tier", "lukewarm")[0] == 2
