"""ProviderContract: what every implementation of `hypersdk.plugin.Provider` must keep.

Not here: a platform's own rules, and what a capability adds (changes, import).
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hypersdk.data.extent import ExtentKind
from hypersdk.errors import InvalidArgument, NotFound
from hypersdk.plugin import Machine, Provider
from hypersdk.testing.task_context import LocalTaskContext

_ID = re.compile(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")


class ProviderContract:
    """Subclass it and give two fixtures:

    provider     a configured Provider whose platform has at least three machines, one of them with a disk
    exportable   (machine id, disk id, content as bytes) of a small disk
    """

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
