"""Providers that are broken on purpose, one way each (see the package)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.plugin import ChangeSet, Page
from hypersdk.testing import MemoryProvider
from hypersdk.testing.extent_law import ExtentLawContract
from hypersdk.testing.provider import MemoryDisk
from hypersdk.testing.provider_contract import ProviderContract

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
