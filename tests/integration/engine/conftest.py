"""A dispatcher with real runner processes and a plugin of a few small tasks, but no server and no hosts."""

import asyncio
import inspect
import textwrap

import pytest
from hypersdk.plugin.manifest import Manifest
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.engine import Engine
from hypersdk_kernel.engine.foreign import ForeignChanges
from hypersdk_kernel.engine.leadership import Leadership
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.engine.vaults import Vaults
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.model.job import NewJob
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin
from hypersdk_kernel.model.retry import RetryPolicy
from hypersdk_kernel.store.engine import Store

PROBE = '''
import os, time
from hypersdk.errors import DataLoss, Unavailable
from hypersdk.plugin import Progress, Storage, Task


class Probe(Task):
    """Counts its successes in a file; does on the way what its spec says."""

    def run(self, context):
        spec = context.spec
        start = (context.checkpoint or {}).get("step", 0)
        if "hold" in spec:
            context.acquired("hold", "task/probe", {"path": spec["hold"]})
            open(spec["hold"], "w").close()
        for step in range(start, spec.get("steps", 0)):
            context.check()
            time.sleep(spec.get("step_s", 0.0))
            context.progress(Progress("stepping", step + 1, spec["steps"]))
            context.save_checkpoint({"step": step + 1})
            if step + 1 == spec.get("die_at") and context.attempt == 1:
                os.kill(os.getpid(), 9)
        if spec.get("fail") == "permanent":
            raise DataLoss("bad bytes")
        if spec.get("fail") == "once" and context.attempt == 1:
            raise Unavailable("come back")
        with open(spec["count"], "a") as file:
            file.write("x")
        return {"start": start, "attempt": context.attempt}

    def cleanup(self, record):
        os.unlink(record["path"])
'''

MANIFEST = """
{"manifest_version": 1, "name": "probe", "api_version": "1.0", "components": {"task/probe": {
  "spec_schema": {"type": "object", "additionalProperties": false, "required": ["count"], "properties": {
    "count": {"type": "string"}, "steps": {"type": "integer", "minimum": 0}, "step_s": {"type": "number"},
    "die_at": {"type": "integer"}, "fail": {"enum": ["permanent", "once"]}, "hold": {"type": "string"}}}}}}
"""


@pytest.fixture
def registry(tmp_path):
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "probe_plugin.py").write_text(textwrap.dedent(PROBE))
    generation = Generation(
        "probe", 1, "probe", "1.0", "ab" * 32, "installed", GenerationState.ACTIVE,
        {"task/probe": "probe_plugin:Probe"}, Manifest.parse(MANIFEST), (str(folder),),
    )  # fmt: skip
    return Registry([Plugin("probe", "probe", "", (generation,))])


class Kernel:
    """The engine's parts, put together as server/app does."""

    def __init__(self, tmp_path, registry, settings, database, clock=None):
        self.tmp_path, self.registry, self.settings, self.database = tmp_path, registry, settings, database
        self.clock = clock or SystemClock()
        self.prepare = lambda kernel: None  # before anything of an earlier kernel is taken up
        self.count = tmp_path / "count"

    async def start(self):
        clock = self.clock
        self.store = await Store.open(self.database.backend(), clock)
        self.leadership = Leadership(self.store)
        connections = Connections(self.store, clock, self.registry, Vaults(self.registry, None, clock))
        self.engine = Engine(self.store, clock, self.registry, connections, self.tmp_path / "runs", self.settings)
        self.dispatcher, self.jobs = self.engine.dispatcher, self.engine.jobs
        self.store.on_foreign.append(ForeignChanges(self.dispatcher))
        self.leadership.add(self.engine)
        prepared = self.prepare(self)
        if inspect.isawaitable(prepared):
            await prepared
        await self.engine.load()
        await self.leadership.start()
        async with asyncio.timeout(20):
            while not self.engine.started:
                await asyncio.sleep(0.01)
        return self

    async def stop(self):
        await self.leadership.stop()
        await self.store.close()

    def new(self, name="j", retry=None, **spec):
        return NewJob(name, "probe", {"count": str(self.count), **spec}, retry=retry or RetryPolicy(3, 0.05))

    async def until(self, name, *states, timeout_s=30.0):
        async with asyncio.timeout(timeout_s):
            while (job := await self.jobs.get(name)).state.value not in states:
                await asyncio.sleep(0.01)
            return job

    def successes(self):
        return len(self.count.read_text()) if self.count.exists() else 0


@pytest.fixture
async def kernel(tmp_path, registry, database):
    made = await Kernel(tmp_path, registry, RunnerSettings(max_runners=4, cancel_grace_s=5.0), database).start()
    yield made
    for runner in list(made.dispatcher.runners.values()):
        runner.kill()
    await made.stop()
