"""TaskContract: what every implementation of `hypersdk.plugin.Task` must keep: it can be killed at any instant, and is
cancelled when asked.

The suite runs the task whole once, counts its checks and checkpoints, and runs it again dying at each of them.

Not here: what the task does, and what a real SIGKILL does to files (a plugin's own tests, with a runner).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from hypersdk.errors import Cancelled
from hypersdk.plugin import Task
from hypersdk.testing.faults import spread
from hypersdk.testing.task_context import Killed, LocalTaskContext

NewContext = Callable[[], LocalTaskContext]
_MAX_RESULT = 1 << 20


class TaskContract:
    """Subclass it and give:

    task            fixture: the task
    new_context     fixture: a function that makes the context of a fresh job with an untouched world (storages,
                    providers, files), the same one each time. Contexts of one test may share `scratch_dir`
    volatile        class attribute: keys of the result that differ from run to run (times, names)
    """

    volatile: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def task(self) -> Task:
        raise NotImplementedError("give a `task` fixture in the subclass")

    @pytest.fixture
    def new_context(self) -> NewContext:
        raise NotImplementedError("give a `new_context` fixture in the subclass: a function that makes a context")

    def stable(self, result: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in result.items() if key not in self.volatile}

    def test_the_result_is_small_json(self, task: Task, new_context: NewContext) -> None:
        """Mend: return plain dicts, lists, strings and numbers, at most 1 MiB of them; put bulk into a storage."""
        text = json.dumps(task.run(new_context()), allow_nan=False)
        assert len(text) <= _MAX_RESULT

    def test_everything_acquired_is_released_or_the_result(self, task: Task, new_context: NewContext) -> None:
        """Mend: `context.released(id)` for each `context.acquired(id, …)`, on success too."""
        context = new_context()
        task.run(context)
        assert context.unreleased() == set()

    def test_it_looks_whether_it_is_cancelled(self, task: Task, new_context: NewContext) -> None:
        """Mend: call `context.check()` between pieces of work, at least once a second."""
        context = new_context()
        task.run(context)
        assert context.checks > 0, "a job of this task can be neither cancelled nor paused"

    def test_a_cancelled_attempt_ends_at_once_and_releases(self, task: Task, new_context: NewContext) -> None:
        """Cancelled at every check in turn. Mend: let Cancelled pass through; release in `except`/`finally`, and do
        not go on working after it was raised."""
        for number in spread(self._count(task, new_context)[0]):
            context = new_context()
            cancel_at(context, number)
            with pytest.raises(Cancelled):
                task.run(context)
            assert context.checks <= number + 2, f"cancelled at check {number}, but it went on"
            assert context.unreleased() == set(), f"cancelled at check {number}, it left something behind"

    def test_killed_at_any_check_the_next_attempt_finishes(self, task: Task, new_context: NewContext) -> None:
        """The runner dies; the next attempt has the last checkpoint and the outstanding resources. Mend: look at
        `context.checkpoint` and `context.outstanding()` first; make every step repeatable."""
        checks, _, wanted = self._count(task, new_context)
        for number in spread(checks):
            context = new_context()
            context.kill_after_checks = number
            assert self.stable(self._revive(task, context)) == wanted, f"killed at check {number}"

    def test_killed_after_any_checkpoint_the_next_attempt_finishes(
        self, task: Task, new_context: NewContext
    ) -> None:
        """Mend: a checkpoint must hold all that the next attempt needs, and say nothing that is not done yet."""
        _, checkpoints, wanted = self._count(task, new_context)
        if checkpoints == 0:
            pytest.skip("this task saves no checkpoint: its attempts start afresh")
        for number in spread(checkpoints):
            context = new_context()
            context.kill_after_checkpoints = number
            assert self.stable(self._revive(task, context)) == wanted, f"killed after checkpoint {number}"

    def test_work_is_not_done_again(self, task: Task, new_context: NewContext) -> None:
        """Killed after its last checkpoint, the next attempt has less to do than the first. Mend: go on from the
        checkpoint's position."""
        checks, checkpoints, _ = self._count(task, new_context)
        if checkpoints < 3:
            pytest.skip("this task saves too few checkpoints here to tell")
        context = new_context()
        context.kill_after_checkpoints = checkpoints - 1
        with pytest.raises(Killed):
            task.run(context)
        again = context.next_attempt()
        task.run(again)
        assert again.checks < checks, "the second attempt began at the beginning"

    def test_progress_never_goes_back(self, task: Task, new_context: NewContext) -> None:
        """Mend: count what is done in all, not in this piece; keep a phase's `bytes_total`."""
        context = new_context()
        task.run(context)
        done: dict[str, int] = {}
        for report in context.reports:
            assert report.bytes_done >= done.get(report.phase, 0), f"phase {report.phase!r} goes back"
            assert report.bytes_total < 0 or report.bytes_done <= report.bytes_total, "more is done than there is"
            done[report.phase] = report.bytes_done

    def test_a_plan_is_json_and_changes_nothing(self, task: Task, new_context: NewContext) -> None:
        """Mend: `plan` has only the spec, touches nothing and says the same twice."""
        spec = new_context().spec
        plan = json.dumps(task.plan(spec), allow_nan=False, sort_keys=True)
        assert json.dumps(task.plan(spec), allow_nan=False, sort_keys=True) == plan

    def _count(self, task: Task, new_context: NewContext) -> tuple[int, int, dict[str, Any]]:
        context = new_context()
        result = self.stable(json.loads(json.dumps(task.run(context))))
        return context.checks, context.checkpoints_saved, result

    def _revive(self, task: Task, context: LocalTaskContext) -> Mapping[str, Any]:
        with pytest.raises(Killed):
            task.run(context)
        again = context.next_attempt()
        result = json.loads(json.dumps(task.run(again)))
        assert again.unreleased() == set(), "the second attempt left something behind"
        return dict(result)


def cancel_at(context: LocalTaskContext, number: int) -> None:
    """Have `context` cancelled at its check number `number`, counted from 1."""

    def look() -> None:
        if context.checks >= number:
            context.cancel()

    context.on_check = look

