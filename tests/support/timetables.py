"""A timetable on a clock of the test's own, and short words for what tests do with it."""

import contextlib

from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.timing import Timing
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.events import page as events_page

from support.scheduling import Timetable

HOUR, DAY = 3600.0, 86400.0
TEMPLATE = {"task": "noop", "spec": {"to": "${scheduled_stamp}-${run_number}"}}


@contextlib.asynccontextmanager
async def timetable(where):
    clock = ManualClock()
    store = await Store.open(where, clock)
    made = Timetable(store, clock)
    await made.scheduler.load()
    yield made
    await made.scheduler.stop()
    await store.close()


async def schedule(table, name="s", cron="@every 1h", template=TEMPLATE, **values):
    return await table.schedules.create(
        name, {"timing": Timing(cron=cron), "template": template, **values}, actor="local"
    )


async def kinds(table) -> list[str]:
    events = await table.real.read(lambda conn: events_page(conn, 0, 10_000))
    return [event.type for event in events if event.type.startswith("schedule.")]


async def pass_time(table, seconds: float) -> None:
    table.clock.advance(seconds)
    await table.settle()
