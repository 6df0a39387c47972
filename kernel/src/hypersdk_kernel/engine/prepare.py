"""What a job's runner is told: its components, its connections with their secrets, its folders.

Not here: starting it (runner), choosing when (dispatcher).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
_NO_FORMATS: Mapping[str, str] = {}
BRIEF = "brief"
"""The capability of tasks that a warm worker may run (briefs)."""


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
        *,
        confined: bool = False,
    ) -> None:
        self._host_command = host_command
        self._verify = verify
        self.confine = {"mode": "enforce" if confined else "off", "files": False}
        self._registry = registry
        self._connections = connections
        self._runs = runs

    def rundir(self, uid: str) -> RunDir:
        return RunDir(self._runs, uid)

    async def prepare(self, job: Job) -> tuple[list[ActiveComponent], dict[str, Any]]:
        """The components this job runs with, and its runner's spec but for the attempt's own fields. Raises what the
        registry and the connections raise."""
        task = self._registry.component(f"task/{job.task}")
        needs = taskspec.needs(task.manifest.spec_schema, job.spec)
        resolved = {c.name: c for c in [await self._connections.resolve(f"connections/{i}") for i in needs.connections]}
        components = self.components(job, sorted({c.component for c in resolved.values()}), needs.formats)
        await self.verify(components)
        used = {c.component for c in resolved.values()}
        spec = {
            "protocol": _PROTOCOL,
            "mode": "run",
            "job": job.name,
            "task": job.task,
            "spec": dict(job.spec),
            "job_dir": str(self.rundir(job.uid).path),
            "bandwidth_limit_bytes": job.bandwidth_limit_bytes,
            "paused": False,
            "confine": self.confine,
            "components": {c.name: taskspec.component_to_wire(c, self._host(c, used)) for c in components},
            "connections": {name: {**c.to_wire(), "component": c.component} for name, c in resolved.items()},
        }
        return components, spec

    def components(
        self, job: Job, connected: Sequence[str] = (), formats: Mapping[str, str] = _NO_FORMATS
    ) -> list[ActiveComponent]:
        """What the job is pinned to, or, at its first dispatch, what answers now."""
        if job.pins:
            return taskspec.pinned_components(self._registry, job.pins)
        drawn = self._registry.draw()
        return taskspec.choose(drawn, drawn.component(f"task/{job.task}"), connected, formats)

    async def verify(self, components: Iterable[ActiveComponent]) -> None:
        """Raises DataLoss (PLUGIN_TAMPERED) when installed files are not as they were."""
        installed = {c.generation.name: c.generation for c in components if c.generation.origin == "installed"}
        for generation in installed.values():
            await asyncio.to_thread(self._verify, generation)

    def _host(self, component: ActiveComponent, used: Collection[str]) -> Sequence[str]:
        """What starts the host of a component that is not written in Python. Only those of the job's connections are
        ever started by a runner; that the program of another one is missing must not fail the job."""
        host = component.generation.manifest.host if component.generation.manifest is not None else None
        if host is None or component.name in used:
            return self._host_command(component.generation)
        return host.command

    async def spec(self, job: Job) -> dict[str, Any]:
        return (await self.prepare(job))[1]

    def facts(self, job: Job) -> Facts:
        """What limits count a job by. Its task may have gone since it was submitted: then it names nothing."""
        try:
            task = self._registry.component(f"task/{job.task}").manifest
            needs = taskspec.needs(task.spec_schema, job.spec)
        except HyperError:
            return Facts(job.task, job.owner, job.labels)
        connections, repositories = tuple(sorted(needs.connections)), tuple(sorted(needs.repositories))
        brief = BRIEF in task.capabilities and not connections and job.executor == "local"
        return Facts(job.task, job.owner, job.labels, connections, repositories, brief)
