"""PriceTable: the contract of `hypersdk.pricing` plugins: dated, sourced prices of a storage, and what a usage costs by
them.

A table is a list of rows. Whoever subclasses PriceTable gives `rows`; `quote` adds them up, and is overridden only for
a vendor whose arithmetic is another. Both are pure: the same rows and the same request give the same answer, without
clock, network or file system, so an estimate can be repeated and checked.

Money is `decimal.Decimal`, never float. Nothing is rounded: an amount is exactly quantity × price. Who shows it to a
person rounds half to even, to cents, at the end (`cents`).

Not here: converting currencies, fetching prices, projecting costs over months that differ (ask `quote` month by month).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, Literal

from hypersdk.errors import FieldViolation, InvalidArgument

Dimension = Literal["storage", "egress", "put", "get", "retrieval"]
Tier = Literal["", "hot", "cool", "cold", "archive", "deep_archive"]

DIMENSIONS: Final[tuple[Dimension, ...]] = ("storage", "egress", "put", "get", "retrieval")
TIERS: Final[tuple[Tier, ...]] = ("hot", "cool", "cold", "archive", "deep_archive")
UNITS: Final[dict[str, tuple[tuple[Dimension, ...], int]]] = {
    "GB-month": (("storage",), 10**9),
    "GiB-month": (("storage",), 2**30),
    "GB": (("egress", "retrieval"), 10**9),
    "GiB": (("egress", "retrieval"), 2**30),
    "request": (("put", "get"), 1),
    "1000 requests": (("put", "get"), 1000),
    "10000 requests": (("put", "get"), 10_000),
}
"""unit → the dimensions it can measure, and the bytes or requests of one."""

EXACT: Final = Context(prec=80, rounding=ROUND_HALF_EVEN)
"""Products and sums of int64 byte counts and prices are exact in it; only days turned to months are rounded, in the
80th digit."""
MAX_MONTHS: Final = 1200


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price. Rows of one region, class and dimension that differ in `effective_date` are its history.

    sku             the vendor's own id, or one that the table makes; unique with region, date and volume
    region          as the vendor writes it: `us-east-1`
    storage_class   in lower case: `glacier`; "" is for every class (of `egress` as a rule)
    tier            of `storage` rows: the class in words that vendors share; "" on other rows
    unit            a key of UNITS, that measures `dimension`
    price           for one unit, 0 or more
    currency        ISO 4217
    effective_date  the day from which it holds, as far as the source tells, else the day it was read
    source          where it was read: an address or a document, never empty
    volume_from     the price is for the part of a month's volume from here …
    volume_to       … to here, in GB, GiB or requests (a unit's multiple is not counted); None: without end
    minimum_days    of `storage` rows: days that are charged at least, 0: none
    """

    sku: str
    region: str
    storage_class: str
    dimension: Dimension
    unit: str
    price: Decimal
    currency: str
    effective_date: date
    source: str
    tier: Tier = ""
    volume_from: Decimal = Decimal(0)
    volume_to: Decimal | None = None
    minimum_days: int = 0

    def sort_key(self) -> tuple[str, str, int, date, Decimal, str]:
        """The order in which a table lists its rows."""
        place = DIMENSIONS.index(self.dimension)
        return (self.region, self.storage_class, place, self.effective_date, self.volume_from, self.sku)


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A class that a table has a storage price for."""

    id: str
    tier: Tier
    minimum_days: int


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What is stored and moved. Bytes and requests are those of the whole time; all but `stored_bytes` are priced as
    of one month, so that volume discounts and free volumes count once.

    storage_class    one of the table's
    region           "" is the table's default
    stored_bytes     kept for `months`
    months           0 to 1200, may be a fraction; `months_of` turns days into it
    effective_date   by the prices of that day; None: by the newest of each
    """

    storage_class: str
    region: str = ""
    stored_bytes: int = 0
    months: Decimal = Decimal(1)
    egress_bytes: int = 0
    put_requests: int = 0
    get_requests: int = 0
    retrieval_bytes: int = 0
    effective_date: date | None = None


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """`amount` is `quantity` × `unit_price`, exactly. The date and source are the row's."""

    sku: str
    description: str
    dimension: Dimension
    quantity: Decimal
    unit: str
    unit_price: Decimal
    amount: Decimal
    effective_date: date
    source: str


@dataclass(frozen=True, slots=True)
class Quote:
    """`total` is the exact sum of the lines; `warnings` are sentences for a person: a minimum duration that is
    charged, a usage that the table has no price for."""

    region: str
    storage_class: str
    tier: Tier
    lines: tuple[QuoteLine, ...]
    total: Decimal
    currency: str
    warnings: tuple[str, ...] = ()


class PriceTable(abc.ABC):
    """One vendor's prices. Its life: made without arguments, then asked, from several threads at once when the
    manifest says `parallel`. A host keeps one instance."""

    @property
    @abc.abstractmethod
    def default_region(self) -> str:
        """(C) The region of requests that name none."""

    @abc.abstractmethod
    def rows(self) -> Sequence[PriceRow]:
        """(C) All rows, in order of `sort_key`, of one currency. The volumes of one region, class, dimension and date
        begin at 0 and join without gap or overlap. Always the same while the instance lives."""

    def quote(self, request: QuoteRequest) -> Quote:
        """(C) What it costs. Raises InvalidArgument: PRICE_CLASS_UNKNOWN, PRICE_REGION_UNKNOWN (both name what there
        is), PRICE_REQUEST_INVALID (a negative number, too long a time). Nothing used costs nothing; more bytes never
        cost less in all."""
        from hypersdk.plugin.priceadding import add_up

        return add_up(self.rows(), request, self.default_region)

    def regions(self) -> list[str]:
        """(C) Regions that have a storage price, in order."""
        return sorted({row.region for row in self.rows() if row.dimension == "storage"})

    def storage_classes(self, region: str = "") -> list[StorageClass]:
        """(C) The classes of a region, "" for the default one: the hottest first, then by price, dearest first."""
        wanted = region or self.default_region
        newest: dict[str, PriceRow] = {}
        for row in self.rows():
            if row.dimension == "storage" and row.region == wanted and row.volume_from == 0:
                newest[row.storage_class] = row  # rows of a class come in order of date
        ordered = sorted(newest.values(), key=lambda r: (_heat(r.tier), -r.price, r.storage_class))
        return [StorageClass(row.storage_class, row.tier, row.minimum_days) for row in ordered]


def _heat(tier: Tier) -> int:
    return TIERS.index(tier) if tier else len(TIERS)


def months_of(days: int | Decimal) -> Decimal:
    """Days as months of 365/12 days: 365 days are 12."""
    return EXACT.divide(EXACT.multiply(Decimal(days), Decimal(12)), Decimal(365))


def plain(value: Decimal) -> str:
    """The number as digits, without exponent and superfluous zeros: `0.00099`, `48`."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def cents(value: Decimal) -> Decimal:
    """For showing: two places, half to even."""
    return value.quantize(Decimal("0.01"), context=EXACT)


def refused(field: str, text: str, reason: str = "") -> InvalidArgument:
    """The error of a request that cannot be priced."""
    if not reason:
        reason = "PRICE_REQUEST_INVALID"
    return InvalidArgument(f"{field} {text}", reason=reason, violations=(FieldViolation(field, text),))
