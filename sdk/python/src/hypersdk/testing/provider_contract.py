"""ProviderContract: what every implementation of `hypersdk.plugin.Provider` must keep.

Not here: a platform's own rules, and what the capabilities add: changes (extent_law), import.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hypersdk.data.extent import ExtentKind
from hypersdk.errors import Cancelled, HyperError, InvalidArgument, NotFound
from hypersdk.plugin import Machine, Provider
from hypersdk.testing.faults import Injector, SyscallFaults, spread
from hypersdk.testing.task_context import LocalTaskContext

_ID = re.compile(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")


class ProviderContract:
    """Subclass it and give two fixtures:

    provider     a configured Provider whose platform has at least three machines, one of them with a disk
    exportable   (machine id, disk id, content as bytes) of a small disk

    and where the defaults are not right:

    concurrency  class attribute, as in the manifest: `parallel` has it used by several threads at once
    faults       a function of a number that makes a context manager in which that call of the platform fails
                 (hypersdk.testing.faults); files of this process by default
    """

    concurrency: ClassVar[str] = "serial"

    @pytest.fixture
    def faults(self) -> Injector:
        return SyscallFaults

    @pytest.fixture
    def provider(self) -> Provider:
        raise NotImplementedError("give a `provider` fixture in the subclass: configured, three machines at least")

    @pytest.fixture
    def exportable(self) -> tuple[str, str, bytes]:
        raise NotImplementedError("give an `exportable` fixture in the subclass: machine id, disk id, content")

    @pytest.fixture
    def context(self, tmp_path: Path) -> LocalTaskContext:
        return LocalTaskContext({}, tmp_path)

    def all_machines(self, provider: Provider, page_size: int) -> list[Machine]:
        found: list[Machine] = []
        token = ""
        for _ in range(10_000):
            page = provider.machines(page_size, token)
            assert len(page.items) <= page_size, "a page is longer than was asked for"
            found += page.items
            token = page.next_token
            if not token:
                return found
        raise AssertionError("the list never ends: its page token does not advance")

    def test_health_of_a_reachable_platform_is_ok(self, provider: Provider) -> None:
        """Mend: do the cheapest authenticated call; return Health(False, why) instead of raising."""
        health = provider.health()
        assert health.ok, health.message
        assert health.latency_s >= 0

    @pytest.mark.parametrize("page_size", [1, 2, 1000])
    def test_pages_together_are_the_whole_inventory_in_a_stable_order(self, provider: Provider, page_size: int) -> None:
        """Each machine comes once, in the same order, whatever the page size. Mend: sort by something that
        does not change, and start a page after the last item of the one before, not at a count."""
        ids = [machine.id for machine in self.all_machines(provider, page_size)]
        assert len(ids) >= 3
        assert len(set(ids)) == len(ids)
        assert ids == [machine.id for machine in self.all_machines(provider, 1000)]

    def test_a_foreign_page_token_is_refused(self, provider: Provider) -> None:
        """Mend: decode strictly and raise InvalidArgument (PAGE_TOKEN_INVALID)."""
        for token in ("junk", "\0", "☃"):
            with pytest.raises(InvalidArgument) as caught:
                provider.machines(10, token)
            assert caught.value.reason == "PAGE_TOKEN_INVALID"

    def test_ids_are_resource_ids(self, provider: Provider) -> None:
        """Ids stand in resource names and URLs. Mend: derive a slug from the platform's own id, with a hash
        where that loses something; keep the platform's id in `platform_id`."""
        for machine in self.all_machines(provider, 1000):
            assert _ID.match(machine.id), machine.id
            disk_ids = [disk.id for disk in machine.disks]
            assert len(set(disk_ids)) == len(disk_ids)
            assert all(_ID.match(disk_id) for disk_id in disk_ids), disk_ids

    def test_what_is_listed_can_be_got_and_is_the_same(self, provider: Provider) -> None:
        """Mend: build both answers in one function."""
        for listed in self.all_machines(provider, 1000):
            got = provider.machine(listed.id)
            assert (got.id, got.display_name, got.platform_id) == (listed.id, listed.display_name, listed.platform_id)

    def test_machines_survive_json(self, provider: Provider) -> None:
        """A machine crosses processes as UTF-8 JSON. Mend: escape bytes that are no text; use plain
        values."""
        for machine in self.all_machines(provider, 1000):
            text = json.dumps(_plain(machine), ensure_ascii=False)
            assert json.loads(text.encode("utf-8"))["id"] == machine.id

    def test_sizes_and_counts_are_known_or_marked_unknown(self, provider: Provider) -> None:
        """Mend: -1 for sizes that are not known, 0 for counts; never a guess."""
        for machine in self.all_machines(provider, 1000):
            assert machine.cpu_count >= 0
            assert machine.memory_bytes >= 0
            assert all(d.size_bytes >= -1 and d.allocated_bytes >= -1 for d in machine.disks)

    def test_an_unknown_machine_is_not_found(self, provider: Provider) -> None:
        """Mend: raise NotFound (MACHINE_NOT_FOUND)."""
        with pytest.raises(NotFound) as caught:
            provider.machine("no-such-machine-anywhere")
        assert caught.value.reason == "MACHINE_NOT_FOUND"

    def test_an_unknown_disk_is_not_found(
        self, provider: Provider, exportable: tuple[str, str, bytes], context: LocalTaskContext
    ) -> None:
        """Mend: raise NotFound (DISK_NOT_FOUND) before anything is acquired."""
        with pytest.raises(NotFound):
            provider.open_source(exportable[0], "no-such-disk", context)
        assert context.unreleased() == set()

    def test_a_disk_reads_as_its_content_and_its_extents_cover_it(
        self, provider: Provider, exportable: tuple[str, str, bytes], context: LocalTaskContext
    ) -> None:
        """Mend: `extents` in order without gaps; ZERO only where bytes are zero; `readinto` fills all of the
        buffer from the offset."""
        machine_id, disk_id, content = exportable
        with provider.open_source(machine_id, disk_id, context) as source:
            assert source.size == len(content)
            at = 0
            for extent in source.extents():
                assert extent.offset == at
                assert extent.length > 0
                buffer = bytearray(extent.length)
                source.readinto(extent.offset, memoryview(buffer))
                assert bytes(buffer) == content[extent.offset : extent.end]
                if extent.kind == ExtentKind.ZERO:
                    assert not any(buffer)
                at = extent.end
            assert at == len(content)

    def test_closing_a_source_releases_what_it_acquired(
        self, provider: Provider, exportable: tuple[str, str, bytes], context: LocalTaskContext
    ) -> None:
        """A snapshot that is left behind grows until the datastore is full. Mend: release in the source's `close`, and
        in `open_source` when it fails after it acquired."""
        with provider.open_source(exportable[0], exportable[1], context) as source:
            source.readinto(0, memoryview(bytearray(1)))
        assert context.unreleased() == set()

    def test_a_cancelled_attempt_leaves_nothing_behind(
        self, provider: Provider, exportable: tuple[str, str, bytes], context: LocalTaskContext
    ) -> None:
        """Mend: call `context.check()` in loops that wait for the platform; release on the way out."""
        context.cancel()
        try:
            provider.open_source(exportable[0], exportable[1], context).close()
        except Cancelled:
            pass  # a provider that opens at once need not look
        assert context.unreleased() == set()

    def test_threads_may_use_it_at_once(
        self, provider: Provider, exportable: tuple[str, str, bytes], context: LocalTaskContext
    ) -> None:
        """`parallel` is what the manifest says. Mend: a session for each thread, or a lock; or declare `serial`."""
        if self.concurrency != "parallel":
            pytest.skip("the test class says that it is not used in parallel (`concurrency`)")
        machine_id, disk_id, content = exportable
        wanted = [machine.id for machine in self.all_machines(provider, 2)]

        def use(_number: int) -> bool:
            with provider.open_source(machine_id, disk_id, context) as source:
                buffer = bytearray(source.size)
                source.readinto(0, memoryview(buffer))
            ids = [machine.id for machine in self.all_machines(provider, 2)]
            return bytes(buffer) == content and ids == wanted and provider.machine(machine_id).id == machine_id

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(use, range(24)))

    def test_a_fault_at_any_call_is_typed_and_passes(
        self, provider: Provider, exportable: tuple[str, str, bytes], context: LocalTaskContext, faults: Injector
    ) -> None:
        """Each call of the platform fails in turn. Mend: errors of the tree, or the OSError itself; never fewer
        machines, never other bytes, and nothing left behind. The next try works."""
        machine_id, disk_id, _ = exportable

        def read() -> bytes:
            with provider.open_source(machine_id, disk_id, context) as source:
                buffer = bytearray(source.size)
                source.readinto(0, memoryview(buffer))
                return bytes(buffer)

        reads: dict[str, Callable[[], Any]] = {
            "machines": lambda: [machine.id for machine in self.all_machines(provider, 1000)],
            "machine": lambda: provider.machine(machine_id).id,
            "open_source": read,
        }
        for name, act in reads.items():
            wanted = act()
            with faults(0) as counted:
                act()
            for number in spread(counted.calls):
                try:
                    with faults(number):
                        found = act()
                except (HyperError, OSError):
                    found = wanted
                assert found == wanted, f"{name} answered something else when call {number} failed"
                assert context.unreleased() == set(), f"{name} left something behind when call {number} failed"
            assert act() == wanted

    def test_cleanup_of_something_gone_succeeds(self, provider: Provider) -> None:
        """The runner may have died after releasing. Mend: treat the platform's not-found answer as
        success."""
        provider.cleanup({"connection": "connections/test"})

    def test_close_may_be_repeated(self, provider: Provider) -> None:
        """Mend: make `close` idempotent."""
        provider.close()
        provider.close()


def _plain(machine: Machine) -> Any:
    """`dataclasses.asdict` copies mappings; what is left must be JSON already."""
    return dataclasses.asdict(machine)
