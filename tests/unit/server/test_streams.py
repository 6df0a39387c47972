"""How streams share the loop: pages in turns, by few at a time, and none waits for a reader that does not read."""

import asyncio

import pytest
from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk_kernel.server import streams
from hypersdk_kernel.server.streams import TURN, WRITERS, Stream, Streams, Turns
from hypersdk_kernel.services.streaming import Page


class Reader:
    """Takes a message in a turn of the loop; while `stopped`, none."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name
        self.going = asyncio.Event()
        self.going.set()
        self.got = 0

    async def write(self, data: bytes) -> None:
        self.log.append(self.name)
        await self.going.wait()
        await asyncio.sleep(0)
        self.got += 1


def page(length: int) -> Page:
    return Page([b"x"] * length)


async def test_messages_arrive_in_order_whatever_the_length_of_the_page():
    got = []

    async def write(data: bytes) -> None:
        got.append(data)

    stream = Streams(1).stream(write)
    await stream.send(Page(b"%d" % number for number in range(TURN * 2 + 3)))
    await stream.send(Page((b"alone",)))
    await stream.send(pb.WatchJobsResponse(revision=7))
    assert got[:-2] == [b"%d" % number for number in range(TURN * 2 + 3)]
    assert got[-2:] == [b"alone", pb.WatchJobsResponse(revision=7).SerializeToString()]


async def test_of_a_thousand_streams_a_few_write_in_a_turn_of_the_loop():
    """What gRPC hands out one in each turn of the loop, a new call, waits for so many messages and no more."""
    together = Streams(1000)
    log: list[str] = []
    readers = [Reader(log, str(number)) for number in range(1000)]
    sending = [asyncio.ensure_future(together.stream(reader.write).send(page(40))) for reader in readers]
    await asyncio.sleep(0)
    most = 0
    while not all(task.done() for task in sending):
        log.clear()
        await asyncio.sleep(0)
        most = max(most, len(log))
    assert WRITERS <= most <= 2 * WRITERS
    assert all(reader.got == 40 for reader in readers)


async def test_who_had_fewest_turns_is_next():
    turns, log = Turns(1), []
    long = [Reader(log, "long") for _ in range(3)]
    sending = [asyncio.ensure_future(Stream(turns, reader.write).send(page(TURN * 6))) for reader in long]
    while len(log) < TURN * 7:
        await asyncio.sleep(0)
    log.clear()
    await Stream(turns, Reader(log, "short").write).send(page(TURN))
    assert log.index("short") <= TURN  # when the turn that goes on has ended
    await asyncio.gather(*sending)


async def test_a_reader_that_does_not_read_keeps_no_other_from_its_messages(monkeypatch):
    monkeypatch.setattr(streams, "STALLED_S", 0.01)
    together = Streams(100)
    stuck = [Reader([], "stuck") for _ in range(3 * WRITERS)]
    for reader in stuck:
        reader.going.clear()
    waiting = [asyncio.ensure_future(together.stream(reader.write).send(page(TURN * 2))) for reader in stuck]
    await asyncio.sleep(0)
    reader = Reader([], "healthy")
    await asyncio.wait_for(together.stream(reader.write).send(page(TURN * 4)), 10)
    assert reader.got == TURN * 4
    assert not any(task.done() for task in waiting)
    for each in stuck:
        each.going.set()
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert [each.got for each in stuck] == [TURN * 2] * len(stuck)


@pytest.mark.parametrize("moment", ["waits", "has just been given it", "writes"])
async def test_a_stream_that_is_ended_leaves_its_turn_to_the_next(moment):
    turns = Turns(1)
    give_back = await turns.take(0)
    ended = asyncio.ensure_future(Stream(turns, Reader([], "ended").write).send(page(TURN)))
    await asyncio.sleep(0)
    if moment == "waits":
        ended.cancel()
        await asyncio.sleep(0)
    give_back()
    give_back()
    if moment == "writes":
        await asyncio.sleep(0)
    ended.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended
    for _ in range(3):
        (await asyncio.wait_for(turns.take(0), 10))()
    assert turns._free == 1
