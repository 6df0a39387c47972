"""The life of generations with real wheels, real hosts and a real store."""

import asyncio
import os
import signal
import zipfile

import pytest
from hosting_fakes import eventually
from hypersdk.errors import AlreadyExists, FailedPrecondition, HyperError, NotFound
from hypersdk_kernel.hosting import restore
from hypersdk_kernel.hosting.discovery import discover
from hypersdk_kernel.hosting.install import PluginStore
from hypersdk_kernel.hosting.ledger import Ledger
from hypersdk_kernel.hosting.lifecycle import Lifecycle
from hypersdk_kernel.hosting.probation import ProbationPolicy
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.removal import Removal
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.hosting.swap import SwapPolicy
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.model.job import Job, JobState, Pin
from hypersdk_kernel.model.plugin import GenerationState
from hypersdk_kernel.store import jobs
from hypersdk_kernel.store import plugins as rows
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.events import page
from hypersdk_kernel.store.requests import RequestKey
from support.wheels import FORMAT_CODE, make_wheel

S = GenerationState
ID = "format-swapped"


class Kernel:
    """The parts of a kernel that plugins live in, over one state directory."""

    def __init__(self, folder, store, plugins, builds, find):
        clock = SystemClock()
        self.folder, self.store, self.builds = folder, store, builds
        self.registry = Registry(plugins)
        self.hosts = HostPool(clock, self.registry.redact)
        self.ledger = Ledger(store, self.registry, clock)
        policy = SwapPolicy(probation=ProbationPolicy(seconds=30.0))
        self.life = Lifecycle(self.ledger, builds, self.registry, self.hosts, clock, policy, find)
        self.removal = Removal(self.life, self.ledger, builds, self.registry, self.hosts)

    @classmethod
    async def start(cls, folder, find=lambda now: []):
        store = await Store.open(folder / "state.db", SystemClock())
        builds = PluginStore(folder / "plugins")
        builds.prepare()
        remembered, numbers = await store.read(lambda c: (rows.load(c), rows.last_numbers(c)))
        merged = restore.merge(find(1.0), remembered, numbers, builds.load, 1.0)
        await store.write(lambda tx: restore.write_changes(tx, merged))
        return cls(folder, store, merged, builds, find)

    async def stop(self):
        await self.life.close()
        await self.hosts.close(1.0)
        await self.store.close()

    async def install(self, version, **kw):
        options = {k: kw.pop(k) for k in ("activate", "validate_only", "key") if k in kw}
        return await self.life.install(make_wheel(self.folder, version, **kw), actor="test", **options)

    async def version(self):
        return await self._asked(self.registry.component("format/swapped"))

    async def turn(self):
        return await self._asked(self.registry.turn("format/swapped"))

    async def _asked(self, component):
        request = {"name": "formats/swapped"}
        answer = await self.hosts.call(component, "x", "GetFormat", request, None, 10.0)
        return answer["create_options"]["version"]

    def states(self):
        return {g.number: g.state for g in self.registry.plugin(ID).generations}

    async def events(self):
        return [e.type for e in await self.store.read(lambda c: page(c, 0, 100))]


@pytest.fixture
async def kernel(tmp_path):
    made = await Kernel.start(tmp_path)
    yield made
    await made.stop()


async def test_versions_are_installed_swapped_and_rolled_back_and_survive_a_restart(kernel):
    await kernel.install("1.0")
    assert await kernel.version() == "1.0"
    await kernel.install("2.0")
    assert await kernel.version() == "2.0"
    assert kernel.states() == {1: S.DRAINING, 2: S.ACTIVE}
    await kernel.life.roll_back(ID, actor="test")
    assert await kernel.version() == "1.0"
    await eventually(lambda: kernel.states() == {1: S.ACTIVE, 2: S.RETIRED})
    await kernel.life.activate(ID, 2, actor="test")
    assert await kernel.events() == [
        "plugin.installed", "plugin.activated", "plugin.installed", "plugin.activated", "plugin.rolled_back",
        "plugin.retired", "plugin.activated",
    ]  # fmt: skip
    await kernel.stop()
    again = await Kernel.start(kernel.folder)
    try:
        assert again.states() == {1: S.RETIRED, 2: S.ACTIVE}
        assert await again.version() == "2.0"
    finally:
        await again.stop()


async def test_a_canary_is_promoted_withdrawn_and_outlives_a_restart(kernel):
    await kernel.install("1.0")
    await kernel.install("2.0", activate=False)
    with pytest.raises(FailedPrecondition) as alone:
        await kernel.life.activate(ID, 1, actor="test", canary_percent=10)
    assert alone.value.reason == "CANARY_REFUSED"
    await kernel.life.activate(ID, 2, actor="test", canary_percent=50)
    assert kernel.states() == {1: S.ACTIVE, 2: S.CANARY}
    assert [await kernel.turn() for _ in range(4)] == ["1.0", "2.0"] * 2
    with pytest.raises(FailedPrecondition) as serving:
        await kernel.removal.uninstall(ID, 2, actor="test")
    assert serving.value.reason == "GENERATION_ACTIVE"
    assert await kernel.removal.collect_garbage(actor="test") == []
    await kernel.stop()

    again = await Kernel.start(kernel.folder)
    try:
        assert again.states() == {1: S.ACTIVE, 2: S.CANARY}
        assert [await again.turn() for _ in range(4)] == ["1.0", "2.0"] * 2
        await again.life.roll_back(ID, actor="test")
        assert {await again.turn() for _ in range(4)} == {"1.0"}
        await again.life.activate(ID, 2, actor="test", canary_percent=99)
        await again.life.activate(ID, 1, actor="test")  # all to the active one: withdraws the canary too
        assert {await again.turn() for _ in range(4)} == {"1.0"}
        await again.life.activate(ID, 2, actor="test", canary_percent=99)
        await again.life.activate(ID, 2, actor="test")
        assert again.states() == {1: S.DRAINING, 2: S.ACTIVE}
        assert {await again.turn() for _ in range(4)} == {"2.0"}
        told = [e for e in await again.events() if "canary" in e]
        started, withdrawn = "plugin.canary_started", "plugin.canary_withdrawn"
        assert told == [started, withdrawn, started, withdrawn, started]
        await again.removal.uninstall(ID, None, actor="test")
    finally:
        await again.stop()


async def test_a_canary_that_turns_bad_after_a_restart_is_withdrawn_too(kernel):
    await kernel.install("1.0")
    bad = FORMAT_CODE.replace('return {"version": "@version"}', "raise KeyError('defect')")
    await kernel.install("2.0", code=bad, activate=False)
    await kernel.life.activate(ID, 2, actor="test", canary_percent=50)
    await kernel.stop()
    again = await Kernel.start(kernel.folder)
    try:
        assert {await again.turn() for _ in range(20)} == {"1.0"}
        assert again.states() == {1: S.ACTIVE, 2: S.FAILED}
    finally:
        await again.stop()


async def test_a_canary_whose_files_were_touched_while_the_kernel_was_away_is_failed(kernel):
    await kernel.install("1.0")
    await kernel.install("2.0", activate=False)
    await kernel.life.activate(ID, 2, actor="test", canary_percent=50)
    folder = kernel.builds.folder(kernel.registry.plugin(ID).canary)
    await kernel.stop()
    module = folder / "hypersdk_format_swapped" / "__init__.py"
    module.write_text(module.read_text() + "# touched")
    again = await Kernel.start(kernel.folder)
    try:
        assert again.states() == {1: S.ACTIVE, 2: S.FAILED}
        assert again.registry.plugin(ID).generation(2).canary_percent == 0
        assert {await again.turn() for _ in range(4)} == {"1.0"}
    finally:
        await again.stop()


async def test_the_same_wheel_again_is_the_same_generation(kernel):
    await kernel.install("1.0")
    await kernel.install("1.0")
    assert kernel.states() == {1: S.ACTIVE}
    assert (await kernel.events()).count("plugin.installed") == 1


async def test_what_is_only_installed_or_only_checked_does_not_serve(kernel):
    checked = await kernel.install("1.0", validate_only=True)
    assert checked.generations[0].version == "1.0"
    assert kernel.registry.plugins() == []
    assert list((kernel.folder / "plugins" / "store").iterdir()) == []
    await kernel.install("1.0", activate=False)
    assert kernel.states() == {1: S.INSTALLED}
    with pytest.raises(NotFound):
        await kernel.version()
    with pytest.raises(FailedPrecondition) as caught:
        await kernel.life.roll_back(ID, actor="test")
    assert caught.value.reason == "NO_PREVIOUS_GENERATION"


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise RuntimeError('no')", "PLUGIN_IMPORT_FAILED"),
        ("Plugin = 7", "PLUGIN_CLASS_INVALID"),
        (FORMAT_CODE + "    def __init__(self, needed): ...\n", "PLUGIN_CLASS_INVALID"),
        ("import os\nos._exit(3)", "PEER_GONE"),
    ],
)
async def test_a_version_that_cannot_serve_is_failed_with_its_reason_and_the_old_one_serves(kernel, code, cause):
    await kernel.install("1.0")
    with pytest.raises(FailedPrecondition) as caught:
        await kernel.install("2.0", code=code)
    assert caught.value.metadata["cause"] == cause
    assert kernel.states() == {1: S.ACTIVE, 2: S.FAILED}
    assert await kernel.version() == "1.0"
    assert (await kernel.events())[-1] == "plugin.failed"


async def test_a_version_that_turns_bad_is_taken_back_by_itself_and_that_is_written_down(kernel):
    await kernel.install("1.0")
    await kernel.version()
    bad = FORMAT_CODE.replace('return {"version": "@version"}', "raise KeyError('defect')")
    await kernel.install("2.0", code=bad)
    # The contract calls GetFormat idempotent, so nobody but the log hears of the defect.
    assert {await kernel.version() for _ in range(8)} == {"1.0"}
    assert kernel.states() == {1: S.ACTIVE, 2: S.FAILED}

    async def written():
        kept = await kernel.store.read(rows.load)
        return {g.number: g.state for g in kept[0].generations}

    for _ in range(100):
        if await written() == {1: S.ACTIVE, 2: S.FAILED}:
            break
        await asyncio.sleep(0.02)
    assert await written() == {1: S.ACTIVE, 2: S.FAILED}
    assert "plugin.rolled_back" in await kernel.events()


async def test_a_component_of_another_plugin_cannot_be_taken_and_nothing_is_left(kernel):
    await kernel.install("1.0")
    with pytest.raises(FailedPrecondition) as caught:
        await kernel.install("1.0", distribution="other-format")
    assert caught.value.reason == "COMPONENT_CONFLICT"
    assert [p.id for p in kernel.registry.plugins()] == [ID]
    assert not list((kernel.folder / "plugins" / "store" / "other-format").glob("*"))


async def test_a_request_repeated_with_its_id_is_answered_once(kernel):
    key = RequestKey("3f2b8a50-8a6c-4f0e-9d39-1d4f4c1f0001", "Install", b"\1" * 32)
    await kernel.install("1.0", key=key)
    await kernel.install("2.0")
    assert (await kernel.install("1.0", key=key)).active.version == "2.0"
    with pytest.raises(AlreadyExists):
        await kernel.install("1.0", key=RequestKey(key.request_id, "Install", b"\2" * 32))


async def test_a_request_that_comes_twice_at_once_is_carried_out_once(kernel):
    await kernel.install("1.0")
    await kernel.install("2.0")
    key = RequestKey("3f2b8a50-8a6c-4f0e-9d39-1d4f4c1f0003", "RollbackPlugin", b"\1" * 32)
    await asyncio.gather(*(kernel.life.roll_back(ID, actor="test", key=key) for _ in range(2)))
    assert await kernel.version() == "1.0"


async def test_a_note_of_a_generation_that_comes_after_its_end_does_not_bring_it_back(kernel):
    plugin = await kernel.install("1.0")
    await kernel.ledger.forget(list(plugin.generations), "test", None)
    await kernel.ledger.record(ID, "kernel", ("plugin.retired", plugin.generations[0], {}))
    assert await kernel.store.read(rows.load) == []


async def test_uninstalling_takes_component_and_files_and_numbers_are_not_reused(kernel):
    await kernel.install("1.0")
    await kernel.install("2.0")
    with pytest.raises(FailedPrecondition) as caught:
        await kernel.removal.uninstall(ID, 2, actor="test")
    assert caught.value.reason == "GENERATION_ACTIVE"
    await kernel.removal.uninstall(ID, 1, actor="test")
    assert await kernel.version() == "2.0"
    await kernel.removal.uninstall(ID, None, actor="test")
    with pytest.raises(HyperError):
        await kernel.version()
    await eventually(lambda: not list((kernel.folder / "plugins" / "store" / "hypersdk-format-swapped").iterdir()))
    assert (await kernel.install("2.0")).active.number == 3


async def test_what_a_job_is_pinned_to_stays(kernel):
    for version in ("1.0", "2.0", "3.0", "4.0"):
        await kernel.install(version)
    await kernel.install("5.0", activate=False)
    await eventually(lambda: S.RETIRED in (kernel.states()[2], kernel.states()[1]))
    first = kernel.registry.plugin(ID).generation(1)
    pin = Pin(first.name, first.distribution, first.version, first.digest, "1.0", ("format/swapped",))
    job = Job("j", "u", "convert", {}, JobState.RUNNING, 1.0, 1.0, pins=(pin,))
    await kernel.store.write(lambda tx: jobs.add(tx, job, ()))
    assert kernel.registry.pinned(pin) == kernel.registry.plugin(ID).generation(1)
    with pytest.raises(FailedPrecondition) as caught:
        await kernel.removal.uninstall(ID, 1, actor="test")
    assert caught.value.reason == "GENERATION_PINNED"
    await eventually(lambda: kernel.states()[2] is S.RETIRED)
    assert await kernel.removal.collect_garbage(actor="test", validate_only=True) == [f"plugins/{ID}/generations/2"]
    key = RequestKey("3f2b8a50-8a6c-4f0e-9d39-1d4f4c1f0002", "CollectGarbage", b"\1" * 32)
    assert await kernel.removal.collect_garbage(actor="test", key=key) == [f"plugins/{ID}/generations/2"]
    assert await kernel.removal.collect_garbage(actor="test", key=key) == [f"plugins/{ID}/generations/2"]
    assert await kernel.removal.collect_garbage(actor="test") == []
    assert sorted(kernel.states()) == [1, 3, 4, 5]
    assert await kernel.version() == "4.0"


@pytest.fixture
async def developed(tmp_path):
    """A kernel with the plugin in its environment, and the file of it that a developer changes."""
    site = tmp_path / "site"
    with zipfile.ZipFile(make_wheel(tmp_path, "1.0")) as archive:
        archive.extractall(site)
    made = await Kernel.start(tmp_path, lambda now: discover(now, [str(site)]))
    yield made, site / "hypersdk_format_swapped" / "__init__.py"
    await made.stop()


async def test_a_repeated_reload_that_found_nothing_new_does_not_look_again(developed):
    kernel, source = developed
    key = RequestKey("3f2b8a50-8a6c-4f0e-9d39-1d4f4c1f0004", "ReloadPlugin", b"\1" * 32)
    await kernel.life.reload(ID, actor="test", key=key)
    source.write_text(source.read_text().replace('"1.0"', '"edited"'))
    assert len((await kernel.life.reload(ID, actor="test", key=key)).generations) == 1


async def test_a_reload_swaps_to_what_the_files_say_now(developed):
    kernel, source = developed
    original = source.read_text()
    assert await kernel.version() == "1.0"
    assert len((await kernel.life.reload(ID, actor="test")).generations) == 1
    source.write_text(original.replace('"1.0"', '"edited once"'))
    await kernel.life.reload(ID, actor="test")
    assert await kernel.version() == "edited once"
    with pytest.raises(FailedPrecondition) as gone:
        await kernel.life.activate(ID, 1, actor="test")
    assert gone.value.reason == "GENERATION_GONE"
    source.write_text("raise RuntimeError('half an edit')")
    with pytest.raises(FailedPrecondition, match="half an edit"):
        await kernel.life.reload(ID, actor="test")
    assert await kernel.version() == "edited once"
    source.write_text(original)
    back = await kernel.life.reload(ID, actor="test")
    assert (back.active.number, await kernel.version()) == (1, "1.0")


async def test_files_that_are_put_back_can_be_started_again(developed):
    kernel, source = developed
    original = source.read_text()
    await kernel.version()
    source.write_text("raise RuntimeError('half an edit')")
    with pytest.raises(FailedPrecondition, match="half an edit"):
        await kernel.life.reload(ID, actor="test")
    assert not kernel.registry.plugin(ID).active.present
    source.write_text(original)
    assert (await kernel.life.reload(ID, actor="test")).active.present
    pid = kernel.hosts.status(kernel.registry.plugin(ID).active).pid
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: kernel.hosts.status(kernel.registry.plugin(ID).active).pid != pid)
    assert await kernel.version() == "1.0"


async def test_a_day_of_edits_leaves_the_last_few_generations(developed):
    kernel, source = developed
    original = source.read_text()
    for edit in range(12):
        source.write_text(original.replace('"1.0"', f'"edit {edit}"'))
        await kernel.life.reload(ID, actor="test")
        await kernel.removal.tidy(ID, keep=3)
    await eventually(lambda: S.DRAINING not in list(kernel.states().values())[:-2])
    await kernel.removal.tidy(ID, keep=3)
    assert len(kernel.states()) <= 3 + 2
    assert await kernel.version() == "edit 11"


async def test_an_installed_build_covers_the_bundled_one_until_it_is_uninstalled(developed):
    kernel, _ = developed
    await kernel.install("2.0")
    assert await kernel.version() == "2.0"
    with pytest.raises(FailedPrecondition) as immutable:
        await kernel.life.reload(ID, actor="test")
    assert immutable.value.reason == "PLUGIN_IMMUTABLE"
    await kernel.removal.uninstall(ID, None, actor="test")
    assert await kernel.version() == "1.0"
