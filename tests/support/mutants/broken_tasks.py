"""Tasks that are broken on purpose, one way each (see the package)."""

from __future__ import annotations

import itertools

import pytest
from hypersdk.errors import Cancelled
from hypersdk.plugin import Progress, Task
from hypersdk.testing import LocalTaskContext
from hypersdk.testing.task_contract import TaskContract


class CountTask(Task):
    """Adds 0 … 9, a checkpoint each; holds a resource meanwhile."""

    def run(self, context):
        saved = dict(context.checkpoint or {"next": 0, "sum": 0})
        for resource in context.outstanding():
            context.released(resource)
        context.acquired("counter", "task/count", {})
        try:
            for number in range(saved["next"], 10):
                context.check()
                saved = {"next": number + 1, "sum": saved["sum"] + number}
                context.save_checkpoint(saved)
                context.progress(Progress("counting", number + 1, 10))
        except Cancelled:
            context.released("counter")
            raise
        context.released("counter")
        return {"sum": saved["sum"]}


class _Task(TaskContract):
    Made = CountTask

    @pytest.fixture
    def task(self):
        return self.Made()

    @pytest.fixture
    def new_context(self, tmp_path):
        return lambda: LocalTaskContext({}, tmp_path)


class TestSoundTask(_Task):
    """The control."""


class TestIgnoresCancel(_Task):
    caught_by = "test_a_cancelled_attempt_ends_at_once_and_releases"

    class Made(CountTask):
        def run(self, context):
            check = context.check

            def deaf():
                try:
                    check()
                except Cancelled:
                    return

            context.check = deaf
            return super().run(context)


class TestNeverLooks(_Task):
    caught_by = "test_it_looks_whether_it_is_cancelled"

    class Made(CountTask):
        def run(self, context):
            context.check = lambda: None
            return super().run(context)


class TestCountsTwice(_Task):
    caught_by = "test_killed_after_any_checkpoint_the_next_attempt_finishes"

    class Made(CountTask):
        def run(self, context):
            if context.checkpoint:
                context.checkpoint = {**context.checkpoint, "next": max(0, context.checkpoint["next"] - 1)}
            return super().run(context)


class TestBeginsAgain(_Task):
    caught_by = "test_work_is_not_done_again"

    class Made(CountTask):
        def run(self, context):
            context.checkpoint = None
            return super().run(context)


class TestReleasesNothing(_Task):
    caught_by = "test_everything_acquired_is_released_or_the_result"

    class Made(CountTask):
        def run(self, context):
            context.released = lambda resource: None
            return super().run(context)


class TestReturnsAnObject(_Task):
    caught_by = "test_the_result_is_small_json"

    class Made(CountTask):
        def run(self, context):
            return {**super().run(context), "context": context}


class TestProgressGoesBack(_Task):
    caught_by = "test_progress_never_goes_back"

    class Made(CountTask):
        def run(self, context):
            result = super().run(context)
            context.progress(Progress("counting", 1, 10))
            return result


class TestPlanDiffers(_Task):
    caught_by = "test_a_plan_is_json_and_changes_nothing"

    class Made(CountTask):
        counter = itertools.count()

        def plan(self, spec):
            return {"number": next(self.counter)}
