"""Executor: the contract of `hypersdk.executor` plugins: an existing engine that places runners on other machines.

The kernel decides what runs and when; an executor decides where, by an attempt's `placement`, and starts one process
there: the **agent**, `python -I -B -m hypersdk.runner.remote`, which is given the order on its standard input, connects
to the kernel by itself and starts the ordinary runner. Nothing else travels through an executor: no spec, no secret, no
journal. An order holds a token that can be used once, for a certificate of this one attempt.

An instance belongs to one connection. Its life: created with no arguments, `configure(config, secrets)`, then the
methods below, each any number of times and from several threads at once if the manifest says `parallel`, then `close`.
What it has placed outlives it: `close`, the end of its process and a restart of the kernel leave agents running.

Every attempt is known by its `reference`, which the **kernel** chooses: a kernel that dies between asking and
remembering asks again by the same name. Hence the duties:

* `submit` with a reference that is there already changes nothing and returns.
* `submit` returns as soon as the engine has taken the order; that no machine has room is a status (PENDING).
* The agent is started at most once for a reference. An engine that repeats what died must be told not to: the kernel
  repeats, from the checkpoint, under another reference.
* The agent dies with whatever the engine started for it, and whatever the engine started ends when the agent does.
  Its standard input is kept open as long as the engine wants it to run: it ends when that closes.
* Every method ends by itself within the time that the manifest gives it.

ENDED and LOST differ in what may still run. ENDED says: this agent's process has ended, surely. LOST says: the engine
does not know, because the machine is gone; the kernel then waits until the runner must have ended itself.

Not here: how an agent speaks with the kernel (docs/host-protocol.md), what is repeated (the kernel).
"""

from __future__ import annotations

import abc
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.plugin.provider import Health

AGENT_ARGUMENTS = ("-I", "-B", "-m", "hypersdk.runner.remote")
"""What a Python with the SDK is started with. The order comes on standard input: one line of JSON."""
MAX_ORDER_BYTES = 64 << 10
MAX_NODES = 10_000
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


class Placement(enum.Enum):
    """Where an order stands."""

    PENDING = "pending"
    """Taken; no machine has room for it, or none fits."""
    RUNNING = "running"
    """An agent was started, and nothing is known of its end."""
    ENDED = "ended"
    """The agent's process has ended, surely, or was never started and never will be."""
    LOST = "lost"
    """The machine cannot be asked: the agent may run or not."""
    UNKNOWN = "unknown"
    """The engine has never heard of the reference, or has forgotten it."""


@dataclass(frozen=True, slots=True)
class Order:
    """reference  lower-case letters, digits and hyphens, at most 128
    agent      the order as the agent reads it: one line of JSON. It holds a token: into no log, no argument of a
               process, no environment
    placement  the job's: what a machine must offer, in the engine's own terms (`{"site": "branch"}`)
    """

    reference: str
    agent: str
    placement: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Order({self.reference!r}, placement={dict(self.placement)!r})"


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """`node`: the machine's name or id, as the engine has it; `message`: for a person, one line."""

    placement: Placement
    node: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine. `offers`: what `placement` can name, with how much of it there is in all and free."""

    name: str
    alive: bool
    total: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, float] = field(default_factory=dict)


class Executor(abc.ABC):
    """An engine that places agents. Not thread-safe unless the manifest's concurrency says so."""

    @abc.abstractmethod
    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """(C) Called once before anything else. Raises InvalidArgument naming the field; no network here."""

    @abc.abstractmethod
    def health(self) -> Health:
        """(C) Can the engine be reached? Never raises for one that is away."""

    @abc.abstractmethod
    def submit(self, order: Order) -> OrderStatus:
        """(C) Have the agent started. Raises InvalidArgument (PLACEMENT_INVALID) for a placement that no machine could
        ever meet by its form; Unavailable for an engine that is away."""

    @abc.abstractmethod
    def status(self, reference: str) -> OrderStatus:
        """(C) Where it stands, without waiting. Raises Unavailable for an engine that is away."""

    @abc.abstractmethod
    def cancel(self, reference: str) -> None:
        """(C) End the agent and whatever was started for it, or take the order back. Returns when the engine was told;
        one that has ended, or was never there, is no error."""

    def reattach(self, reference: str) -> OrderStatus:
        """(C) After a restart of this process or of the kernel: take up the order again; what must be held to keep it
        running is held from now on. An engine that needs nothing for that answers its status."""
        return self.status(reference)

    @abc.abstractmethod
    def nodes(self) -> Sequence[Node]:
        """(C) The machines there are, at most MAX_NODES."""

    def close(self) -> None:
        """(C) Release connections; what was placed goes on. Idempotent."""


def wrong_placement(key: str, rule: str) -> InvalidArgument:
    """What `submit` raises for a placement that can never be met."""
    return InvalidArgument(
        f"placement {key[:64]!r} {rule}",
        reason="PLACEMENT_INVALID",
        violations=(FieldViolation("job.placement", rule),),
    )


def check_reference(reference: str) -> str:
    """Raises InvalidArgument (REFERENCE_INVALID)."""
    if not _REFERENCE.fullmatch(reference):
        rule = "must be 1 to 128 lower-case letters, digits and hyphens"
        raise InvalidArgument(
            f"reference {rule}", reason="REFERENCE_INVALID", violations=(FieldViolation("reference", rule),)
        )
    return reference
