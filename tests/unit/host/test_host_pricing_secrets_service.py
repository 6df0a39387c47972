"""The adapters of price tables, vaults and services: messages to the contracts and back, and a plugin's defects by
name."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypersdk.errors import Internal, InvalidArgument
from hypersdk.host import pricing, secrets, service
from hypersdk.host.calls import Calls
from hypersdk.host.request import Call
from hypersdk.plugin import Health, PriceRow, PriceTable, Secret, SecretSource, Service, rpc
from hypersdk.plugin.rpcs import rpcs_of

DAY = date(2026, 1, 1)
ROW = PriceRow("s", "here", "cold", "storage", "GB-month", Decimal("0.00100"), "EUR", DAY, "a page", "cold")
USAGE = {"stored_bytes": "1000000000", "months": "2"}


class Table(PriceTable):
    default_region = "here"

    def __init__(self, *rows):
        self._rows = rows

    def rows(self):
        return self._rows


def ask(method, table, message):
    return pricing.METHODS[method](table, Call("pricing/x", {"summary": "X"}, "", message))


def test_money_goes_out_as_plain_decimals():
    found = ask("Estimate", Table(ROW), {"storage_class": "cold", "usage": USAGE})
    assert (found["total"], found["currency_code"], found["tier"]) == ("0.002", "EUR", "ACCESS_TIER_COLD")
    assert found["lines"][0]["quantity"] == "2"
    assert found["lines"][0]["unit_price"] == "0.001"


def test_days_are_months_of_a_twelfth_of_a_year():
    usage = {"stored_bytes": 10**9, "days": 365}
    assert ask("Estimate", Table(ROW), {"storage_class": "cold", "usage": usage})["total"] == "0.012"


@pytest.mark.parametrize(
    "usage", [{}, {"months": "soon"}, {"months": "1", "stored_bytes": "many"}, {"days": "-"}, None, [1]], ids=str
)
def test_a_usage_that_no_kernel_sends_is_refused(usage):
    for method in ("Estimate", "Compare"):
        with pytest.raises(InvalidArgument):
            ask(method, Table(ROW), {"storage_class": "cold", "usage": usage})


def test_pages_are_cut_and_their_tokens_checked():
    table = Table(*(replace(ROW, sku=str(n), effective_date=date(2026, 1, 1 + n)) for n in range(5)))
    first = ask("ListPrices", table, {"page_size": 2})
    second = ask("ListPrices", table, {"page_size": 3, "page_token": first["next_page_token"]})
    assert [p["sku"] for p in first["prices"] + second["prices"]] == list("01234")
    assert second["next_page_token"] == ""
    for token in ("x", "-1", "٣", "9" * 20):
        with pytest.raises(InvalidArgument):
            ask("ListPrices", table, {"page_token": token})


@pytest.mark.parametrize(
    "rows",
    [(), ("row",), (replace(ROW, price=0.1),), (replace(ROW, price=Decimal("NaN")),), (replace(ROW, dimension="x"),)],
    ids=["none", "no row", "a float", "no number", "no dimension"],
)
def test_a_tables_defect_is_named(rows):
    with pytest.raises(Internal) as caught:
        ask("ListPrices", Table(*rows), {})
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"


class Vault(SecretSource):
    def __init__(self, answer):
        self.answer = answer

    def configure(self, config, secrets): ...

    def health(self):
        return Health(True)

    def resolve(self, ref):
        return self.answer


def resolve(answer, ref="a/b"):
    return secrets.METHODS["Resolve"](Vault(answer), Call("secrets/x", {}, "connections/v", {"ref": ref}))


def test_a_secret_goes_out_with_its_time():
    assert resolve(Secret("v", 5)) == {"value": "v", "ttl_s": 5.0}


@pytest.mark.parametrize(
    "answer",
    [
        "hunter2", Secret(7), Secret("hunter2\ud800"), Secret("hunter2" * 10_000), Secret("hunter2", -1),
        Secret("hunter2", float("inf")), Secret("hunter2", "long"),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_vaults_defect_is_named_without_its_value(answer):
    with pytest.raises(Internal) as caught:
        resolve(answer)
    assert "hunter2" not in str(caught.value.to_json())
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("ref", ["", "x" * 1025, 7])
def test_a_path_that_no_kernel_sends_is_refused(ref):
    with pytest.raises(InvalidArgument):
        resolve(Secret("v"), ref)


class Greeter(Service):
    @rpc("example.greet.v1.Greeter.Greet")
    def greet(self, request):
        return {"text": f"hello {request['name']}"}

    @rpc("example.greet.v1.Greeter.Break")
    def break_it(self, request):
        return "no object"


class Request:
    age_s = 0.0

    def __init__(self, **params):
        self.params = {"component": "service/greet", "request": {"name": "you"}, **params}


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.setattr("hypersdk.host.calls.load", lambda component, entry: Greeter)
    from hypersdk.wire.redact import Redactor

    return Calls({"service/greet": "x:Greeter"}, {}, lambda *a: None, Redactor())


def test_methods_of_an_own_service_are_found_by_their_full_name(calls):
    assert rpcs_of(Greeter) == {
        "example.greet.v1.Greeter.Greet": "greet", "example.greet.v1.Greeter.Break": "break_it",
    }  # fmt: skip
    assert calls.call(Request(service="example.greet.v1.Greeter", method="Greet")) == {"text": "hello you"}
    for service_name, method in (("", "Greet"), ("example.greet.v1.Other", "Greet"), ("", "greet"), ("", "close")):
        with pytest.raises(Exception, match="has no method"):
            calls.call(Request(service=service_name, method=method))
    with pytest.raises(Internal) as caught:
        calls.call(Request(service="example.greet.v1.Greeter", method="Break"))
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"


@pytest.mark.parametrize("name", ["Greet", "a.B", "hypersdk.api.jobs.v1.JobService.GetJob", "a..b.c", "google.a.B.C"])
def test_no_plugin_takes_a_method_of_ours(name):
    with pytest.raises(ValueError, match="package of your own"):
        rpc(name)


def test_a_service_is_well_without_a_connection():
    assert service.METHODS["Health"](Greeter(), Call("service/greet", {}))["ok"]
