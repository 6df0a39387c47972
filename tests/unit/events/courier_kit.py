"""What the courier's tests share: a store, a receiver that can be made to misbehave, and couriers that a test steps."""

from contextlib import asynccontextmanager

from hypersdk_kernel.engine.subscriptions import Subscriptions
from hypersdk_kernel.events.courier import Courier
from hypersdk_kernel.model.connection import Connection
from hypersdk_kernel.model.subscription import DEFAULT_RETRY
from hypersdk_kernel.store import connections as connection_rows
from hypersdk_kernel.store import subscriptions as rows

HOOK = Connection("hook", "u-hook", "notifier/webhook", {}, 0.0, 0.0)


class Receiver:
    """Takes everything unless `failures` holds errors, the next of which it raises instead."""

    def __init__(self):
        self.taken = []
        self.ids = []
        self.attempts = []
        self.failures = []
        self.before_answer = None

    async def send(self, subscription, notice, attempt):
        self.attempts.append((notice.delivery_id, attempt))
        if self.failures:
            raise self.failures.pop(0)
        if self.before_answer is not None:
            await self.before_answer(notice)
        self.taken.append(notice.event.revision)
        self.ids.append(notice.delivery_id)


@asynccontextmanager
async def open_lane(_failing):
    yield


class Kit:
    """A store with one notifier connection."""

    def __init__(self, store, clock):
        self.store, self.clock = store, clock
        self.subscriptions = Subscriptions(store, clock)
        self.receiver = Receiver()

    async def prepare(self):
        await self.store.write(lambda tx: connection_rows.add(tx.conn, HOOK))
        return self

    async def subscribe(self, name="ops", *, filter_text="", retry=DEFAULT_RETRY, **kw):
        return await self.subscriptions.create(
            name, HOOK.name, filter_text=filter_text, retry=retry, actor="local", **kw
        )

    async def emit(self, *types, payload=None, subject="jobs/x"):
        def write(tx):
            return [tx.emit(type_, subject, "local", payload or {}).revision for type_ in types]

        return await self.store.write(write)

    def courier(self, name="ops", store=None, receiver=None):
        return Courier(
            name, store or self.store, self.clock, (receiver or self.receiver).send, open_lane, chance=lambda: 0.5
        )

    async def run(self, courier, limit=1000):
        """Steps until nothing is due now; what the last one said."""
        for _ in range(limit):
            delay = await courier.step()
            if delay is None and not courier._wakeup.is_set():
                return None
            courier._wakeup.clear()
            if delay:
                return delay
        raise AssertionError("the courier does not come to rest")

    def read(self, fn):
        with self.store.backend.engine.connect() as conn, conn.begin():
            return fn(conn)

    def position(self, name="ops"):
        return self.read(lambda conn: rows.position(conn, name))

    def letters(self, name="ops"):
        return self.read(lambda conn: rows.letters(conn, name, 100, (0, "")))
