"""What the store needs of a database beyond SQL that both speak. Implemented by `sqlite` and `postgresql`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import sqlalchemy
from hypersdk.errors import HyperError
from sqlalchemy import Connection

Statement = tuple[str, Any]
"""In the driver's own form, and its parameters."""
Rows = list[tuple[Any, ...]]


class Backend(Protocol):
    """name: `sqlite` or `postgresql`. shared: may other kernels write to it?"""

    name: Literal["sqlite", "postgresql"]
    shared: bool
    engine: sqlalchemy.Engine

    def migrating(self) -> contextlib.AbstractContextManager[None]:
        """Held while the schema is looked at and changed: one kernel at a time."""
        ...

    def check(self, conn: Connection) -> None:
        """Raises DataLoss (STATE_CORRUPT), FailedPrecondition (STORE_REFUSED) for what we must not work on."""
        ...

    def open_writer(self) -> Connection:
        """A connection of the writer thread's own."""
        ...

    def wait(self, conn: Connection, seconds: float) -> None:
        """For so long a transaction that begins on `conn`, which is the writer's, waits for another process."""
        ...

    def begin(self, conn: Connection, reads: Sequence[Statement]) -> tuple[tuple[int, int] | None, list[Rows]]:
        """First thing in every writing transaction: the newest committed revision and the leader's epoch, which no
        other kernel can move until the transaction ends (None where there are no others), and what `reads` find from
        then on, in one round trip to a server."""
        ...

    def together(self, conn: Connection) -> contextlib.AbstractContextManager[Any]:
        """A cursor for statements whose answers nobody reads: they are carried out by the end of the block, in order,
        in one round trip to a server. They are sent as one message, so that a kernel which is stopped in between never
        keeps a server waiting inside a transaction otherwise than idle, which the server ends."""
        ...

    def end(self, cursor: Any, revision: int) -> None:
        """Last thing in a transaction that took revisions up to `revision`, and its end where that saves a round trip.
        `cursor`: one of `together`."""
        ...

    def cause(self, failure: HyperError) -> HyperError:
        """What really keeps us from writing, where the database's own words do not tell."""
        ...

    def listen(self, poke: Callable[[int], None]) -> Callable[[], None] | None:
        """Call `poke`, from any thread, when others may have written: with the revision if it is known, else with 0,
        and that at least once a second. Returns what stops it."""
        ...
