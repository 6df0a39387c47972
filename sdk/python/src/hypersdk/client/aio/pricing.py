"""client.pricing: price tables, and what a usage costs by them."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from hypersdk.api.pricing.v1 import pricing_pb2, pricing_pb2_grpc
from hypersdk.client.aio.caller import AsyncCaller
from hypersdk.client.aio.pager import AsyncPager


class AsyncPricing:
    """Calls of PricingService, answered by pricing plugins. Tables are `prices/{table}`; money is decimal text beside
    a currency code, exact and rounded nowhere."""

    def __init__(self, channel: grpc.aio.Channel, caller: AsyncCaller) -> None:
        self._stub = pricing_pb2_grpc.PricingServiceStub(channel)
        self._caller = caller

    async def get_table(self, name: str) -> pricing_pb2.PriceTable:
        """One table: its regions, classes, currency. Raises NotFound."""
        return await self._caller.unary(self._stub.GetPriceTable, pricing_pb2.GetPriceTableRequest(name=name))

    def list_tables(
        self, *, page_size: int = 0
    ) -> AsyncPager[pricing_pb2.ListPriceTablesResponse, pricing_pb2.PriceTable]:
        """All tables; the pager's `unreachable` names plugins that did not answer."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.ListPriceTables,
                pricing_pb2.ListPriceTablesRequest(page_size=page_size, page_token=token),
            ),
            lambda page: page.price_tables,
        )

    def list(
        self, parent: str = "prices/-", *, region: str = "", storage_class: str = "", page_size: int = 0
    ) -> AsyncPager[pricing_pb2.ListPricesResponse, pricing_pb2.Price]:
        """Rows of a table, or of all of them; those of one region, those that hold for one class."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.ListPrices,
                pricing_pb2.ListPricesRequest(
                    parent=parent, region=region, storage_class=storage_class, page_size=page_size, page_token=token
                ),
            ),
            lambda page: page.prices,
        )

    async def estimate(
        self, name: str, storage_class: str, usage: pricing_pb2.Usage, *, region: str = "", effective_date: str = ""
    ) -> pricing_pb2.PriceEstimate:
        """What `usage` costs by table `name`. Raises InvalidArgument (PRICE_CLASS_UNKNOWN, PRICE_REGION_UNKNOWN)."""
        request = pricing_pb2.EstimateRequest(
            name=name, region=region, storage_class=storage_class, usage=usage, effective_date=effective_date
        )
        return await self._caller.unary(self._stub.Estimate, request)

    def compare(
        self,
        usage: pricing_pb2.Usage,
        *,
        tier: int = 0,
        regions: Mapping[str, str] | None = None,
        effective_date: str = "",
        page_size: int = 0,
    ) -> AsyncPager[pricing_pb2.CompareResponse, pricing_pb2.ComparedPrice]:
        """What `usage` costs by every table, in each class of `tier` (an AccessTier, 0: all)."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.Compare,
                pricing_pb2.CompareRequest(
                    usage=usage,
                    tier=tier,  # type: ignore[arg-type]  # an int is an enum's value
                    regions=regions,
                    effective_date=effective_date,
                    page_size=page_size,
                    page_token=token,
                ),
            ),
            lambda page: page.prices,
        )
