"""Subject: what the dynamic checks are given: the project, and hosts of it, fresh ones or one that is shared."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hypersdk.host.instances import CONNECTED_KINDS
from hypersdk.plugin.manifest import ComponentManifest
from hypersdk.testing.conformance.checks import Failed
from hypersdk.testing.conformance.harness import PYTHON_HOST, TIMEOUT_S, Answer, HostHarness, NoAnswer
from hypersdk.testing.conformance.project import Project

_MARK = "${tmp}"
PLANTED = "planted-secret-7f3a9c"
"""The value of every secret that checks hand out and that the samples do not give."""


class Subject:
    """Use as a context manager: it ends the shared host and removes the scratch folder. `patience_s` is the time to
    start and to answer a call in; a ping and an exit have half of it."""

    def __init__(
        self, project: Project, command: Sequence[str | Path] = PYTHON_HOST, patience_s: float = TIMEOUT_S
    ) -> None:
        self.patience_s = patience_s
        assert project.manifest is not None
        self.project = project
        self.manifest = project.manifest
        self.command = command
        self.scratch = Path(tempfile.mkdtemp(prefix="hypersdk-conformance-"))
        self._shared: HostHarness | None = None

    # -- hosts -----------------------------------------------------------------------------------------------

    @contextmanager
    def host(self, *, initialized: bool = True) -> Iterator[HostHarness]:
        """A fresh one, ended afterwards."""
        with HostHarness(self.command, patience_s=self.patience_s) as host:
            if initialized:
                self.initialize(host)
            yield host

    @property
    def shared(self) -> HostHarness:
        """One that checks use which leave it as it was; a new one when the last has ended."""
        if self._shared is None or self._shared.ended:
            if self._shared is not None:
                self._shared.close()
            self._shared = HostHarness(self.command, patience_s=self.patience_s)
            self.initialize(self._shared)
        return self._shared

    def introduction(self) -> dict[str, Any]:
        """The params of `initialize`."""
        return {
            "protocol": 1,
            "generation": "plugins/conformance/generations/1",
            "search_path": [str(self.project.modules)],
            "components": dict(self.project.entries),
            "manifest": self.manifest.to_json(),
        }

    def initialize(self, host: HostHarness) -> Answer:
        answer = host.request("initialize", self.introduction())
        if answer.error is not None:
            raise Failed(f"initialize: {answer.error.get('message')}")
        return answer

    def must_live(self, host: HostHarness, after: str) -> None:
        """Raises Failed unless the host still answers."""
        try:
            answer = host.request("ping", {}, self.patience_s / 2)
        except NoAnswer as exc:
            raise Failed(f"after {after} the host answers no ping: {exc}") from exc
        if answer.error is not None:
            raise Failed(f"after {after} a ping is answered with {answer.error}")
        if host.violation:
            raise Failed(f"after {after}: {host.violation}")

    # -- what to call with -----------------------------------------------------------------------------------

    def components(self) -> Iterator[ComponentManifest]:
        yield from self.manifest.components.values()

    def sample(self, component: ComponentManifest) -> Mapping[str, Any]:
        """With its `files` (name → text) laid out in the scratch folder, for their owner's eyes only."""
        found = self.project.samples.get(component.name)
        if not isinstance(found, dict):
            return {}
        for name, text in dict(found.get("files") or {}).items():
            path = self.scratch / Path(str(name)).name
            path.touch(mode=0o600)
            path.write_text(str(text), encoding="utf-8")
        filled = _filled(found, str(self.scratch))
        return filled if isinstance(filled, dict) else {}

    def connection(self, component: ComponentManifest, name: str = "lab") -> dict[str, Any] | None:
        """For a kind that has connections: the sample's, or one with nothing but planted secrets."""
        if not connected(component):
            return None
        sample = self.sample(component)
        secrets = dict.fromkeys(component.secret_fields(), PLANTED) | dict(sample.get("secrets") or {})
        return {"name": f"connections/{name}", "config": dict(sample.get("config") or {}), "secrets": secrets}

    def configured(self, component: ComponentManifest) -> bool:
        """Is there a config for it that its schema accepts: the sample's, or an empty one? The kernel never sends
        another."""
        return not connected(component) or "config" in self.sample(component) or not demands(component)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shared is not None:
            self._shared.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def connected(component: ComponentManifest) -> bool:
    """Is it called for a connection?"""
    return component.kind in CONNECTED_KINDS or (component.kind == "service" and "run" in component.capabilities)


def demands(component: ComponentManifest) -> bool:
    """Does its config schema have required fields?"""
    return bool(component.config_schema.get("required"))


def _filled(value: Any, scratch: str) -> Any:
    if isinstance(value, str):
        return value.replace(_MARK, scratch)
    if isinstance(value, dict):
        return {key: _filled(item, scratch) for key, item in value.items()}
    return [_filled(item, scratch) for item in value] if isinstance(value, list) else value
