"""What a starting kernel makes of what it finds and what it remembers."""

from dataclasses import replace

import pytest
from hosting_fakes import make_component, make_plugin
from hypersdk.errors import DataLoss
from hypersdk_kernel.hosting import restore
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.plugin import GenerationState, Plugin
from hypersdk_kernel.store import plugins as rows
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.events import page

S = GenerationState


def bundled(digest="aa", plugin="fake", state=S.ACTIVE, **changes):
    generation = replace(make_component(plugin=plugin, state=state).generation, digest=digest, **changes)
    return Plugin(plugin, generation.distribution, "Fakes", (generation,))


class Kernel:
    """Starts over the same database. `touched`: digests of installed builds whose files have been changed."""

    def __init__(self, store):
        self.store = store
        self.touched = set()
        self.now = 100.0

    def load(self, generation):
        if generation.digest in self.touched:
            raise DataLoss("touched", reason="PLUGIN_TAMPERED")
        manifest = make_component(plugin=generation.plugin_id).generation.manifest
        return replace(generation, manifest=manifest, entries={"task/fake": "fake:ok"}, present=True)

    async def start(self, *found):
        self.now += 1.0
        remembered, numbers = await self.store.read(lambda c: (rows.load(c), rows.last_numbers(c)))
        merged = restore.merge(found, remembered, numbers, self.load, self.now)
        await self.store.write(lambda tx: restore.write_changes(tx, merged))
        return {p.id: p for p in merged}

    async def save(self, generation):
        await self.store.write(lambda tx: rows.save(tx.conn, [generation], "Fakes"))

    async def events(self):
        return [(e.type, e.subject) for e in await self.store.read(lambda c: page(c, 0, 100))]


@pytest.fixture
async def kernel(tmp_path):
    store = await Store.open(tmp_path / "state.db", ManualClock())
    yield Kernel(store)
    await store.close()


def states(plugin):
    return {g.number: (g.digest, g.state) for g in plugin.generations}


async def test_a_plugin_seen_first_is_generation_one_and_active_and_stays_so_without_a_write(kernel):
    first = (await kernel.start(bundled()))["fake"]
    assert states(first) == {1: ("aa", S.ACTIVE)}
    again = (await kernel.start(bundled()))["fake"]
    assert again.active.activate_time == first.active.activate_time == 101.0
    assert again.active.manifest is not None
    assert await kernel.events() == []


async def test_changed_files_are_a_new_generation_and_the_old_one_is_a_name_only(kernel):
    await kernel.start(bundled("aa"))
    plugin = (await kernel.start(bundled("bb")))["fake"]
    assert states(plugin) == {1: ("aa", S.RETIRED), 2: ("bb", S.ACTIVE)}
    assert not plugin.generation(1).runnable
    assert await kernel.events() == [("plugin.activated", "plugins/fake/generations/2")]
    back = (await kernel.start(bundled("aa")))["fake"]
    assert back.active.number == 1, "the same build is the same generation"


async def test_a_number_is_never_given_twice(kernel):
    await kernel.start(bundled("aa"))
    plugin = (await kernel.start(bundled("bb")))["fake"]
    await kernel.store.write(lambda tx: rows.remove(tx.conn, plugin.generation(2)))
    assert (await kernel.start(bundled("cc")))["fake"].active.number == 3


async def test_an_installed_version_that_was_active_is_active_again_beside_the_bundled_one(kernel):
    plugin = (await kernel.start(bundled()))["fake"]
    await kernel.save(replace(plugin.active, state=S.RETIRED))
    await kernel.save(replace(plugin.active, number=2, digest="ii", origin="installed", activate_time=150.0))
    for found in (bundled("aa"), bundled("new")):
        assert (await kernel.start(found))["fake"].active.number == 2
    assert (await kernel.start())["fake"].active.number == 2


async def test_a_touched_build_is_refused_and_the_one_before_it_takes_over(kernel):
    plugin = (await kernel.start(bundled()))["fake"]
    await kernel.save(replace(plugin.active, state=S.RETIRED))
    await kernel.save(replace(plugin.active, number=2, digest="ii", origin="installed", activate_time=150.0))
    await kernel.start(bundled())
    kernel.touched.add("ii")
    plugin = (await kernel.start(bundled()))["fake"]
    assert plugin.active.number == 1
    assert (plugin.generation(2).state, plugin.generation(2).failure_reason) == (S.FAILED, "PLUGIN_TAMPERED")
    assert await kernel.events() == [
        ("plugin.failed", "plugins/fake/generations/2"), ("plugin.activated", "plugins/fake/generations/1"),
    ]  # fmt: skip
    kernel.touched.clear()
    plugin = (await kernel.start(bundled()))["fake"]
    assert (plugin.active.number, plugin.generation(2).state) == (1, S.RETIRED), "mended, and not active by itself"


async def test_a_build_that_was_tried_and_found_bad_stays_failed_and_one_that_was_misread_does_not(kernel):
    plugin = (await kernel.start(bundled()))["fake"]
    bad = {"state": S.FAILED, "origin": "installed", "activate_time": None}
    await kernel.save(replace(plugin.active, number=2, digest="p", failure_reason="PLUGIN_PROBATION_FAILED", **bad))
    await kernel.save(replace(plugin.active, number=3, digest="q", failure_reason="API_VERSION_UNSUPPORTED", **bad))
    plugin = (await kernel.start(bundled()))["fake"]
    assert [plugin.generation(n).state for n in (1, 2, 3)] == [S.ACTIVE, S.FAILED, S.INSTALLED]


async def test_a_version_that_was_installed_only_is_not_activated_by_a_restart(kernel):
    generation = make_component(state=S.INSTALLED).generation
    await kernel.save(replace(generation, origin="installed"))
    assert (await kernel.start())["fake"].active is None


async def test_a_broken_distribution_is_failed_until_it_is_mended(kernel):
    await kernel.start(bundled("aa"))
    broken = bundled("bb", state=S.FAILED, manifest=None, failure_reason="MANIFEST_MISSING", failure_message="no")
    for _ in range(2):
        plugin = (await kernel.start(broken))["fake"]
        assert plugin.active is None
        assert states(plugin) == {1: ("aa", S.RETIRED), 2: ("bb", S.FAILED)}
    assert (await kernel.start(bundled("cc")))["fake"].active.number == 3


async def test_two_distributions_never_share_an_id(kernel):
    await kernel.start(make_plugin(make_component(plugin="fake")))
    other = bundled("zz")
    stranger = replace(other, distribution="fake", generations=(replace(other.active, distribution="fake"),))
    merged = await kernel.start(make_plugin(make_component(plugin="fake")), replace(stranger, id="fake-2"))
    assert len(merged) == 2
