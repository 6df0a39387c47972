"""ExecutorContract: what every implementation of `hypersdk.plugin.Executor` must keep.

Not here: the kernel's side and the agent, which have tests of their own; the suite orders a stand-in for the agent, so
it needs no kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hypersdk.errors import InvalidArgument
from hypersdk.plugin.executor import Executor, Order, OrderStatus, Placement

WAIT_S = 60.0


class ExecutorContract:
    """Subclass it and give two fixtures:

    executor   a configured Executor whose engine has room for an order with the placement `placement`, and which
               starts, in the agent's place, `python -c` with `agent_program`
    placement  one that a machine of the engine meets; {} by default
    """

    agent_program = """
import json, os, sys, time
order = json.loads(sys.stdin.readline())
with open(order["file"], "a") as out:
    out.write("started %d\\n" % os.getpid())
if order.get("stay"):
    sys.stdin.read()
"""
    """What stands in for the agent: writes a line into `file`; with `stay` it goes on until its input closes."""

    @pytest.fixture
    def executor(self) -> Executor:
        raise NotImplementedError("give an `executor` fixture in the subclass")

    @pytest.fixture
    def placement(self) -> dict[str, str]:
        return {}

    @pytest.fixture
    def order(self, tmp_path: Path, placement: dict[str, str]) -> Callable[..., Order]:
        import json
        import uuid

        def make(*, stay: bool = False) -> Order:
            agent = json.dumps({"file": str(tmp_path / "agent"), "stay": stay, "token": "t-0123456789abcdef"})
            return Order(f"contract-{uuid.uuid4().hex}-1", agent, placement)

        return make

    def test_an_order_runs_the_agent_once_and_ends(
        self, executor: Executor, order: Callable[..., Order], tmp_path: Path
    ) -> None:
        """Mend: start the agent with the order on its standard input; say ENDED when it has ended, however it did."""
        made = order()
        executor.submit(made)
        self.until(executor, made.reference, Placement.ENDED)
        assert self.starts(tmp_path) == 1

    def test_submitting_again_changes_nothing(
        self, executor: Executor, order: Callable[..., Order], tmp_path: Path
    ) -> None:
        """A kernel that was killed submits again. Mend: `submit` looks first whether the reference is there, and does
        so without a gap in which two could pass."""
        made = order(stay=True)
        executor.submit(made)
        executor.submit(made)
        self.until(executor, made.reference, Placement.RUNNING)
        self.until_started(tmp_path)
        executor.submit(made)
        executor.cancel(made.reference)
        self.until(executor, made.reference, Placement.ENDED, Placement.UNKNOWN)
        assert self.starts(tmp_path) == 1

    def test_cancelling_ends_the_agent(self, executor: Executor, order: Callable[..., Order], tmp_path: Path) -> None:
        """Mend: kill the agent, or close its standard input; ENDED or UNKNOWN follows."""
        made = order(stay=True)
        executor.submit(made)
        self.until_started(tmp_path)
        executor.cancel(made.reference)
        self.until(executor, made.reference, Placement.ENDED, Placement.UNKNOWN)
        pid = int((tmp_path / "agent").read_text().split()[1])
        deadline = time.monotonic() + WAIT_S
        while Path(f"/proc/{pid}").exists() and b"Z" not in _state(pid):
            assert time.monotonic() < deadline, "the agent's process goes on"
            time.sleep(0.05)

    def test_cancelling_what_is_not_there_is_no_error(self, executor: Executor) -> None:
        """Mend: return; the kernel cancels whatever it is not sure of."""
        executor.cancel("contract-never-there-1")
        executor.cancel("contract-never-there-1")

    def test_a_reference_that_nobody_submitted_is_unknown(self, executor: Executor) -> None:
        """Mend: answer UNKNOWN, not an error: the kernel submits then."""
        assert executor.status("contract-never-there-2").placement is Placement.UNKNOWN
        assert executor.reattach("contract-never-there-2").placement is Placement.UNKNOWN

    def test_it_can_be_taken_up_again(self, executor: Executor, order: Callable[..., Order], tmp_path: Path) -> None:
        """Mend: what was placed outlives the instance and is found by its reference."""
        made = order(stay=True)
        executor.submit(made)
        self.until_started(tmp_path)
        assert executor.reattach(made.reference).placement is Placement.RUNNING
        executor.cancel(made.reference)

    @pytest.mark.parametrize("placement", [{"no such thing here": "\u202e"}, {"": "1"}, {"x" * 300: "1"}])
    def test_a_placement_that_nothing_meets_waits_or_is_refused(
        self, executor: Executor, order: Callable[..., Order]
    ) -> None:
        """Mend: raise InvalidArgument (PLACEMENT_INVALID), or answer PENDING; never start it somewhere else."""
        made, refused = order(), ""
        try:
            executor.submit(made)
        except InvalidArgument as exc:
            refused = exc.reason
        found = executor.status(made.reference).placement
        assert (refused, found) in {("PLACEMENT_INVALID", Placement.UNKNOWN), ("", Placement.PENDING)}
        executor.cancel(made.reference)

    def test_it_knows_its_machines(self, executor: Executor) -> None:
        """Mend: at least one, each name once, amounts not negative."""
        nodes = executor.nodes()
        assert any(node.alive for node in nodes)
        assert len({node.name for node in nodes}) == len(nodes)
        assert all(amount >= 0 for node in nodes for amount in (*node.total.values(), *node.free.values()))

    def test_the_token_is_in_no_text_that_is_shown(self, executor: Executor, order: Callable[..., Order]) -> None:
        """Mend: messages and names say what happened, never what was ordered."""
        made = order()
        shown = [repr(made), repr(executor.submit(made)), repr(executor.status(made.reference))]
        assert not any("0123456789abcdef" in text for text in shown)
        executor.cancel(made.reference)

    @staticmethod
    def until(executor: Executor, reference: str, *wanted: Placement) -> OrderStatus:
        deadline = time.monotonic() + WAIT_S
        while (status := executor.status(reference)).placement not in wanted:
            assert time.monotonic() < deadline, f"still {status}, wanted {wanted}"
            time.sleep(0.05)
        return status

    @staticmethod
    def until_started(folder: Path) -> None:
        deadline = time.monotonic() + WAIT_S
        while ExecutorContract.starts(folder) == 0:
            assert time.monotonic() < deadline, "the agent was never started"
            time.sleep(0.05)

    @staticmethod
    def starts(folder: Path) -> int:
        file = folder / "agent"
        return file.read_text().count("started") if file.exists() else 0


def _state(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return b"Z"
