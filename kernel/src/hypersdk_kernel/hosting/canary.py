"""Canary: a generation that gets a share of the new calls and jobs, beside the active one.

The share is exact, not random: of each component's calls, and of each plugin's jobs, every n-th one is the canary's as
a line of that slope would be drawn. Two generations of a distribution do not go together in one interpreter, so a job
gets all its components of a plugin from the same one.

Not here: when it begins and ends (swap), judging it (probation).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from hypersdk_kernel.model.job import Pin
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, Plugin


class Canary:
    """The canary of one plugin. Counts as long as generation and percentage stay the same.

    whole  it has every component that the active generation has; else no job goes to it, for one that needs what it
           lacks would get components of both
    """

    def __init__(self, generation: Generation, *, whole: bool) -> None:
        manifest = generation.manifest
        assert manifest is not None, "a generation that serves has a manifest"
        self.generation = generation
        self.components = {name: ActiveComponent(c, generation) for name, c in manifest.components.items()}
        self.whole = whole
        self._owed: defaultdict[str, int] = defaultdict(int)

    @classmethod
    def of(cls, plugin: Plugin, known: Canary | None) -> Canary | None:
        """The canary that `plugin` has now, if it has; with the counts of `known` if it is the same."""
        now = plugin.canary
        if now is None or plugin.active is None:
            return None
        made = cls(now, whole=plugin.active.entries.keys() <= now.entries.keys())
        if known is not None and _terms(known.generation) == _terms(now):
            made._owed = known._owed  # noqa: SLF001  its own class
        return made

    def share(self, line: str) -> bool:
        """Whether the next one of `line` (a component's calls; "": the plugin's jobs) is the canary's."""
        owed = self._owed[line] + self.generation.canary_percent
        self._owed[line] = owed % 100
        return owed >= 100


def _terms(generation: Generation) -> tuple[int, int]:
    return generation.number, generation.canary_percent


class Components(Protocol):
    """hosting.registry.Registry, as far as a draw needs it."""

    def component(self, name: str) -> ActiveComponent: ...
    def components(self, kind: str) -> list[ActiveComponent]: ...
    def pinned(self, pin: Pin) -> Generation: ...
    def canary_for_job(self, plugin_id: str) -> Canary | None: ...


class Draw:
    """The components of one new job, as the registry names them. Its life: one job; each plugin is drawn for once, at
    the first of its components."""

    def __init__(self, registry: Components) -> None:
        self._registry = registry
        self._drawn: dict[str, Canary | None] = {}

    def component(self, name: str) -> ActiveComponent:
        """Raises NotFound (COMPONENT_UNKNOWN)."""
        active = self._registry.component(name)
        plugin_id = active.generation.plugin_id
        if plugin_id not in self._drawn:
            self._drawn[plugin_id] = self._registry.canary_for_job(plugin_id)
        canary = self._drawn[plugin_id]
        return active if canary is None else canary.components[active.name]

    def components(self, kind: str) -> list[ActiveComponent]:
        """Those there are, for their names: active ones, of plugins not drawn for."""
        return self._registry.components(kind)

    def pinned(self, pin: Pin) -> Generation:
        """Raises FailedPrecondition (PIN_UNAVAILABLE)."""
        return self._registry.pinned(pin)
