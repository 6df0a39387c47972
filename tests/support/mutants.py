"""Plugins that are broken on purpose, one way each, under the suites that must notice. Not collected by itself:
tests/unit/testing/test_testing_mutants.py runs it and looks at which tests failed.

A test class's `caught_by` names the check that must fail; the classes without one are sound and must pass whole.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.errors import Cancelled, HyperError, NotFound
from hypersdk.plugin import ChangeSet, ObjectInfo, Page, Progress, Task
from hypersdk.testing import LocalTaskContext, MemoryProvider, MemoryStorage
from hypersdk.testing.extent_law import ExtentLawContract
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.provider import MemoryDisk
from hypersdk.testing.provider_contract import ProviderContract
from hypersdk.testing.storage_contract import StorageContract
from hypersdk.testing.task_contract import TaskContract
from hypersdk_format_raw import RawFormat
from hypersdk_storage_local import LocalStorage

# -- storages -------------------------------------------------------------------------------------------------------


class _Storage(StorageContract):
    concurrency = "parallel"
    Made = MemoryStorage

    @pytest.fixture
    def storage(self):
        return self.Made()


class TestSoundStorage(_Storage):
    """The control."""


class TestListsOutOfOrder(_Storage):
    caught_by = "test_a_list_is_complete_and_in_key_order_for_every_page_size"

    class Made(MemoryStorage):
        def list(self, prefix, page_size, page_token):
            page = super().list(prefix, page_size, page_token)
            return Page(list(reversed(page.items)), page.next_token)


class TestLongPages(_Storage):
    caught_by = "test_a_list_is_complete_and_in_key_order_for_every_page_size"

    class Made(MemoryStorage):
        def list(self, prefix, page_size, page_token):
            return super().list(prefix, page_size + 1, page_token)


class TestTakesAnyPageToken(_Storage):
    caught_by = "test_a_foreign_page_token_is_refused"

    class Made(MemoryStorage):
        def list(self, prefix, page_size, page_token):
            return super().list(prefix, page_size, page_token if page_token.startswith("after:") else "")


class TestOverwritesWhatIsThere(_Storage):
    caught_by = "test_if_absent_refuses_an_existing_key"

    class Made(MemoryStorage):
        def open_writer(self, key, *, if_absent=False, resume=""):
            return super().open_writer(key, if_absent=False, resume=resume)


class TestEtagNeverChanges(_Storage):
    caught_by = "test_the_etag_changes_with_the_content"

    class Made(MemoryStorage):
        def publish(self, writer, data, metadata):
            info = super().publish(writer, data, metadata)
            same = ObjectInfo(info.key, info.size_bytes, info.modified_s, "same")
            self.objects[info.key] = (data, same)
            return same


class TestShortReads(_Storage):
    caught_by = "test_reading_past_the_end_is_out_of_range"

    class Made(MemoryStorage):
        def read_range(self, key, offset, length):
            return self._object(key)[0][offset : offset + length]


class TestDeleteOfNothingFails(_Storage):
    caught_by = "test_delete_removes_and_may_be_repeated"

    class Made(MemoryStorage):
        def delete(self, key):
            self.stat(key)
            super().delete(key)


class TestVisibleBeforeCommit(_Storage):
    caught_by = "test_nothing_is_visible_before_commit"

    class Made(MemoryStorage):
        def open_writer(self, key, **kw):
            writer = super().open_writer(key, **kw)
            self.objects.setdefault(key, (b"", ObjectInfo(key, 0, 0.0, "early")))
            return writer


class TestRacesWithItself(_Storage):
    caught_by = "test_threads_may_use_it_at_once"

    class Made(MemoryStorage):
        def open_writer(self, key, **kw):
            self.last = key
            writer = super().open_writer(key, **kw)
            os.sched_yield()
            writer.key = self.last
            return writer


class _LocalStorage(StorageContract):
    Made = LocalStorage

    @pytest.fixture
    def storage(self, tmp_path):
        storage = self.Made()
        storage.configure({"path": str(tmp_path / "objects"), "create": True}, {})
        return storage


class TestUntypedFaults(_LocalStorage):
    caught_by = "test_a_fault_at_any_call_of_a_read_is_typed"

    class Made(LocalStorage):
        def stat(self, key):
            os.listdir(self._tree.root)
            return super().stat(key)


class TestHalfAnObject(_LocalStorage):
    caught_by = "test_a_fault_at_any_call_of_a_write_leaves_an_object_whole_or_absent"

    class Made(LocalStorage):
        def open_writer(self, key, **kw):
            writer = super().open_writer(key, **kw)
            write, path = writer.write, self._tree.root / key

            def early(data):
                write(data)
                if key.startswith("faults/"):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("ab") as file:
                        file.write(data)

            writer.write = early
            return writer


class TestShorterListWhenItFails(_LocalStorage):
    caught_by = "test_a_fault_at_any_call_of_a_read_is_typed"

    class Made(LocalStorage):
        def list(self, prefix, page_size, page_token):
            try:
                return super().list(prefix, page_size, page_token)
            except HyperError as exc:
                if exc.reason == "INPUT_OUTPUT_ERROR":
                    return Page([])
                raise


# -- providers ------------------------------------------------------------------------------------------------------

CONTENT = b"boot" + bytes(200_000) + b"end of the disk!"


def provider_of(cls):
    provider = cls()
    for name in ("a", "b", "c"):
        provider.machines_by_id[name] = {"disk-0": MemoryDisk(bytearray(CONTENT))}
    return provider


class _Provider(ProviderContract):
    concurrency = "parallel"
    Made = MemoryProvider

    @pytest.fixture
    def provider(self):
        return provider_of(self.Made)

    @pytest.fixture
    def exportable(self):
        return "b", "disk-0", CONTENT


class TestSoundProvider(_Provider):
    """The control."""


class TestUnstableOrder(_Provider):
    caught_by = "test_pages_together_are_the_whole_inventory_in_a_stable_order"

    class Made(MemoryProvider):
        def machines(self, page_size, page_token):
            page = super().machines(page_size, page_token)
            return Page(list(reversed(page.items)), page.next_token)


class TestSkipsMachines(_Provider):
    caught_by = "test_pages_together_are_the_whole_inventory_in_a_stable_order"

    class Made(MemoryProvider):
        def machines(self, page_size, page_token):
            page = super().machines(page_size, page_token)
            return Page(page.items[1:] if page_token else page.items, page.next_token)


class TestForgetsItsSnapshot(_Provider):
    caught_by = "test_closing_a_source_releases_what_it_acquired"

    class Made(MemoryProvider):
        def _release(self, snapshot, context):
            """Forgotten."""


class TestLeaksWhenCancelled(_Provider):
    caught_by = "test_a_cancelled_attempt_leaves_nothing_behind"

    class Made(MemoryProvider):
        def open_source(self, machine_id, disk_id, context):
            source = super().open_source(machine_id, disk_id, context)
            context.check()
            return source


class TestWrongZeros(_Provider):
    caught_by = "test_a_disk_reads_as_its_content_and_its_extents_cover_it"

    class Made(MemoryProvider):
        def open_source(self, machine_id, disk_id, context):
            source = super().open_source(machine_id, disk_id, context)
            source.extents = lambda offset=0, length=None: iter([Extent(0, source.size, ExtentKind.ZERO)])
            return source


class _Law(ExtentLawContract):
    Made = MemoryProvider

    @pytest.fixture
    def provider(self):
        self.platform = provider_of(self.Made)
        return self.platform

    @pytest.fixture
    def disk(self):
        return "b", "disk-0"

    @property
    def medium(self) -> MemoryDisk:
        return self.platform.machines_by_id["b"]["disk-0"]

    def write(self, offset, data):
        self.medium.write(offset, data)

    def trim(self, offset, length):
        self.medium.write(offset, bytes(length))

    def resize(self, size):
        self.medium.resize(size)

    def lose_changes(self):
        self.medium.lose_changes()


class TestSoundChanges(_Law):
    """The control."""


def changed(function):
    """A provider whose change sets go through `function(set, disk)`."""

    class Made(MemoryProvider):
        def changes(self, machine_id, disk_id, since, context):
            found = super().changes(machine_id, disk_id, since, context)
            return function(found, self.machines_by_id[machine_id][disk_id])

    return Made


class TestDropsZeros(_Law):
    caught_by = "test_a_trimmed_range_is_told_as_zero_or_read_as_zeros"
    Made = changed(
        lambda c, d: c
        if c.full
        else ChangeSet(False, iter([e for e in c.extents if e.kind == ExtentKind.DATA]), c.token)
    )


class TestForgetsTheLastBlock(_Law):
    caught_by = "test_full_and_increments_are_the_source"
    Made = changed(
        lambda c, d: c
        if c.full
        else ChangeSet(False, iter([e for e in c.extents if e.end < len(d.content)]), c.token)
    )


class TestFullWithAGap(_Law):
    caught_by = "test_without_a_token_the_answer_is_full_and_has_one"
    Made = changed(lambda c, d: ChangeSet(c.full, itertools.islice(c.extents, 1, None), c.token, c.reason))


class TestNeverAnIncrement(_Law):
    caught_by = "test_nothing_changed_is_an_increment"
    Made = changed(lambda c, d: ChangeSet(True, iter([Extent(0, len(d.content), ExtentKind.DATA)]), c.token, "always"))


class TestNoReason(_Law):
    caught_by = "test_without_a_token_the_answer_is_full_and_has_one"
    Made = changed(lambda c, d: ChangeSet(c.full, c.extents, c.token))


class TestOverlappingExtents(_Law):
    caught_by = "test_full_and_increments_are_the_source"

    @staticmethod
    def _twice(extents: Iterator[Extent]) -> Iterator[Extent]:
        for extent in extents:
            yield extent
            yield extent

    Made = changed(lambda c, d: c if c.full else ChangeSet(False, TestOverlappingExtents._twice(c.extents), c.token))


class TestBelievesAnyToken(_Law):
    caught_by = "test_a_token_that_is_not_ours_is_never_believed"

    class Made(MemoryProvider):
        def changes(self, machine_id, disk_id, since, context):
            token = super().changes(machine_id, disk_id, "", context).token
            foreign = since and not since.startswith(f"{machine_id}/")
            if foreign:
                return ChangeSet(False, iter(()), token)
            return super().changes(machine_id, disk_id, since, context)


class TestIgnoresALoss(_Law):
    caught_by = "test_lost_change_records_give_a_full_answer"

    def lose_changes(self):
        self.medium.writes.clear()


class TestKeepsTrackingThroughAResize(_Law):
    caught_by = "test_a_grown_disk_is_copied_whole"

    def resize(self, size):
        disk = self.medium
        old = len(disk.content)
        del disk.content[size:]
        disk.content += bytes(size - len(disk.content))
        if size < old:
            disk.epoch += 1

    def write(self, offset, data):
        if offset < len(CONTENT):
            super().write(offset, data)
        else:
            self.medium.content[offset : offset + len(data)] = data


class TestTokenRunsAhead(_Law):
    caught_by = "test_increments_can_be_left_out"

    class Made(MemoryProvider):
        def changes(self, machine_id, disk_id, since, context):
            found = super().changes(machine_id, disk_id, since, context)
            extents = list(found.extents)
            if since:  # what was told once is forgotten, whether or not it was kept
                self.machines_by_id[machine_id][disk_id].writes.clear()
            return ChangeSet(found.full, iter(extents), found.token, found.reason)


# -- formats --------------------------------------------------------------------------------------------------------


class _Format(ImageFormatContract):
    claims_all = True
    Made = RawFormat

    @pytest.fixture
    def image_format(self):
        return self.Made()


class TestClaimsEverything(_Format):
    caught_by = "test_other_files_are_not_claimed"

    class Made(RawFormat):
        def probe(self, head, tail, size):
            return 100


class TestLeaksDescriptors(_Format):
    caught_by = "test_closing_releases_the_file"

    class Made(RawFormat):
        def open(self, file, options=None):
            source = super().open(file, options)
            source.close = lambda: None
            return source


class TestReadsPastTheEnd(_Format):
    caught_by = "test_reading_past_the_end_is_out_of_range"

    class Made(RawFormat):
        def open(self, file, options=None):
            source = super().open(file, options)
            source._check = lambda offset, end: None
            return source


class TestIgnoresTheCheckpoint(_Format):
    caught_by = "test_an_interrupted_image_is_gone_on_with"

    class Made(RawFormat):
        def create(self, file, size, options=None, resume=None):
            if resume is not None:
                file.truncate(0)
            return super().create(file, size, options)


class TestTakesAnyOption(_Format):
    caught_by = "test_an_unknown_option_is_refused_with_the_known_ones"

    class Made(RawFormat):
        def create(self, file, size, options=None, resume=None):
            return super().create(file, size, None, resume)


class TestSwallowsAFullDisk(_Format):
    caught_by = "test_a_fault_at_any_call_of_a_write_publishes_nothing"

    class Made(RawFormat):
        def create(self, file, size, options=None, resume=None):
            sink = super().create(file, size, options, resume)
            write = sink.write

            def careless(offset, data):
                try:
                    write(offset, data)
                except OSError:
                    return

            sink.write = careless
            return sink


# -- tasks ----------------------------------------------------------------------------------------------------------


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


class TestNotFoundIsSwallowed(_Storage):
    caught_by = "test_an_absent_object_is_not_found"

    class Made(MemoryStorage):
        def stat(self, key):
            try:
                return super().stat(key)
            except NotFound:
                return ObjectInfo(key, 0, 0.0)
