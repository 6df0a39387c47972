"""What a job's runner is told: its components, its connections with their secrets, its folders.

Not here: starting it (runner), choosing when (dispatcher).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypersdk.errors import HyperError

from hypersdk_kernel.engine import taskspec
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.model.job import Job
from hypersdk_kernel.model.limit import Facts
from hypersdk_kernel.model.plugin import ActiveComponent, Generation

_PROTOCOL = 1


class Preparer:
    """Looks up what a job's spec names. `verify` raises DataLoss when a generation's files are not those that were
    installed; `host_command` is what starts the host of one that is not written in Python (HostCommands.of)."""

    def __init__(
        self,
        registry: taskspec.Registry,
        connections: Connections,
        runs: Path,
        verify: Callable[[Generation], None] = lambda _generation: None,
        host_command: Callable[[Generation], Sequence[str]] = lambda _generation: (),
    ) -> None:
        self._host_command = host_command
        self._verify = verify
        self._registry = registry
        self._connections = connections
        self._runs = runs

    def rundir(self, uid: str) -> RunDir:
        return RunDir(self._runs, uid)

    async def prepare(self, job: Job) -> tuple[list[ActiveComponent], dict[str, Any]]:
        """The components this job runs with, and its runner's spec but for the attempt's own fields. Raises what the
        registry and the connections raise."""
        registry: taskspec.Components = self._registry if job.pins else self._registry.draw()
        task = registry.component(f"task/{job.task}")
        needs = taskspec.needs(task.manifest.spec_schema, job.spec)
        resolved = {c.name: c for c in [await self._connections.resolve(f"connections/{i}") for i in needs.connections]}
        if job.pins:
            components = taskspec.pinned_components(registry, job.pins)
        else:
            kinds = sorted({c.component for c in resolved.values()})
            components = taskspec.choose(registry, task, kinds, needs.formats)
        installed = {c.generation.name: c.generation for c in components if c.generation.origin == "installed"}
        for generation in installed.values():
            await asyncio.to_thread(self._verify, generation)
        spec = {
            "protocol": _PROTOCOL,
            "mode": "run",
            "job": job.name,
            "task": job.task,
            "spec": dict(job.spec),
            "job_dir": str(self.rundir(job.uid).path),
            "bandwidth_limit_bytes": job.bandwidth_limit_bytes,
            "paused": False,
            "components": {c.name: taskspec.component_to_wire(c, self._host_command(c.generation)) for c in components},
            "connections": {name: {**c.to_wire(), "component": c.component} for name, c in resolved.items()},
        }
        return components, spec

    async def spec(self, job: Job) -> dict[str, Any]:
        return (await self.prepare(job))[1]

    def facts(self, job: Job) -> Facts:
        """What limits count a job by. Its task may have gone since it was submitted: then it names nothing."""
        try:
            schema = self._registry.component(f"task/{job.task}").manifest.spec_schema
            needs = taskspec.needs(schema, job.spec)
        except HyperError:
            return Facts(job.task, job.owner, job.labels)
        connections, repositories = tuple(sorted(needs.connections)), tuple(sorted(needs.repositories))
        return Facts(job.task, job.owner, job.labels, connections, repositories)
