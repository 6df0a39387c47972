"""Whose turn it is."""

import asyncio

import pytest
from hosting_fakes import make_component
from hypersdk.errors import DeadlineExceeded
from hypersdk_kernel.hosting.lanes import Lanes, lane_of
from hypersdk_kernel.model.connection import ResolvedConnection

KEY = ("provider/x", "")


def test_the_lane_follows_from_what_the_manifest_declares():
    lab = ResolvedConnection("connections/lab", "provider/x", {})
    assert lane_of(make_component("provider/x", concurrency="parallel"), lab) is None
    assert lane_of(make_component("provider/x", concurrency="serial"), lab) == ("provider/x", "")
    assert lane_of(make_component("provider/x", concurrency="per_handle"), lab) == ("provider/x", "connections/lab")
    assert lane_of(make_component("provider/x", concurrency="per_handle"), None) == ("provider/x", "")


async def test_calls_take_turns_in_the_order_in_which_they_came():
    lanes, order = Lanes(), []

    async def call(number):
        await lanes.enter(KEY, 5)
        order.append(number)
        await asyncio.sleep(0)
        assert order[-1] == number
        lanes.leave(KEY)

    await asyncio.gather(*(call(i) for i in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert lanes._waiting == {}


async def test_who_gives_up_or_is_cancelled_does_not_take_the_turn_with_it():
    lanes = Lanes()
    await lanes.enter(KEY, 5)
    impatient = asyncio.create_task(lanes.enter(KEY, 0.01))
    cancelled = asyncio.create_task(lanes.enter(KEY, 5))
    patient = asyncio.create_task(lanes.enter(KEY, 5))
    with pytest.raises(DeadlineExceeded, match="one at a time"):
        await impatient
    lanes.leave(KEY)
    cancelled.cancel()  # in the very moment in which its turn has come
    await asyncio.wait({cancelled})
    await patient
    lanes.leave(KEY)
    assert lanes._waiting == {}
