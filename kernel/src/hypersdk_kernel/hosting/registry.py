"""Registry: which component of which generation answers a name, and whose turn it is beside a canary.

Holds every plugin with its generations, live or not. A pluggy manager carries one proxy for each plugin with an
ACTIVE generation; nothing of a plugin but its manifest is behind a proxy.

`component` and `components` tell of active generations alone, as whoever looks at a manifest wants it; what is asked or
started goes by `turn` and `draw`, which give a canary its share.

Not here: finding plugins (discovery), running them (supervisor), putting one generation in another's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pluggy
import structlog
from hypersdk.errors import FailedPrecondition, NotFound

from hypersdk_kernel.hosting import hookspecs
from hypersdk_kernel.hosting.canary import Canary, Draw
from hypersdk_kernel.hosting.hookspecs import hookimpl
from hypersdk_kernel.hosting.redaction import SecretFields
from hypersdk_kernel.model.job import Pin
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, GenerationState, Plugin

log = structlog.get_logger(__name__)


class PluginProxy:
    """A plugin as the hooks see it: what its active generation's manifest says. It stays when another generation
    becomes active, for pluggy takes a millisecond to look at a new one."""

    def __init__(self, generation: Generation) -> None:
        self.components = _components(generation)

    @hookimpl
    def select_provider(self, name: str) -> ActiveComponent | None:
        exact = self.components.get(name)
        if exact is not None:
            return exact
        kind, _, alias = name.partition("/")
        same_kind = (c for c in self.components.values() if c.manifest.kind == kind)
        return next((c for c in same_kind if alias in c.manifest.aliases), None)


class Registry:
    """The plugins of a kernel, in order of id. Where two active plugins offer the same component, the first keeps it
    and the other's generation is FAILED (COMPONENT_CONFLICT).

    now  seconds since the epoch; when a generation's state is another than before, it gets this `state_time`
    """

    def __init__(self, plugins: Sequence[Plugin], now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self._plugins: dict[str, Plugin] = {}
        self._canaries: dict[str, Canary] = {}
        self._components: dict[str, ActiveComponent] = {}
        self._selected: dict[str, ActiveComponent] = {}
        self.manager = pluggy.PluginManager(hookspecs.NAMESPACE)
        self.manager.add_hookspecs(hookspecs)
        self.manager.register(SecretFields(), name="kernel")
        for plugin in sorted(plugins, key=lambda p: p.id):
            self._add(plugin)

    def component(self, name: str) -> ActiveComponent:
        """The component that answers `kind/id`, or `kind/alias`. Raises NotFound (COMPONENT_UNKNOWN)."""
        found = self._selected.get(name)
        if found is None:
            found = self._components.get(name) or self.manager.hook.select_provider(name=name)
            if found is None:
                raise self._unknown(name)
            self._selected[name] = found  # bounded: only names that exist are remembered
        return found

    def components(self, kind: str) -> list[ActiveComponent]:
        """All active components of a kind, in order of name."""
        return [c for name, c in sorted(self._components.items()) if c.manifest.kind == kind]

    def turn(self, name: str, number: int | None = None) -> ActiveComponent:
        """Who answers the next call of `kind/id`: the active generation's component, or for its share of them the
        canary's. `number`: rather that generation, if it is one of the two (0: the active one), for a list that it
        began. Raises NotFound (COMPONENT_UNKNOWN)."""
        active = self.component(name)
        canary = self._canaries.get(active.generation.plugin_id)
        if canary is None:
            return active
        theirs = canary.components.get(active.name)
        if theirs is None or number == 0 or number == active.generation.number:
            return active
        if number == theirs.generation.number or canary.share(active.name):
            return theirs
        return active

    def draw(self) -> Draw:
        """The components of one new job: of each plugin that has a canary, this or the other generation."""
        return Draw(self)

    def canary_for_job(self, plugin_id: str) -> Canary | None:
        """The plugin's canary, if the next job is one of its share."""
        canary = self._canaries.get(plugin_id)
        return canary if canary is not None and canary.whole and canary.share("") else None

    def plugin(self, plugin_id: str) -> Plugin:
        """Raises NotFound (PLUGIN_NOT_FOUND)."""
        try:
            return self._plugins[plugin_id]
        except KeyError:
            raise NotFound(
                f"there is no plugin {plugin_id!r}; installed are: {', '.join(self._plugins) or 'none'}",
                reason="PLUGIN_NOT_FOUND",
                metadata={"plugin": plugin_id},
            ) from None

    def plugins(self) -> list[Plugin]:
        return list(self._plugins.values())

    def pinned(self, pin: Pin) -> Generation:
        """The generation that a job was started with, whatever its state is now, by distribution and digest. Raises
        FailedPrecondition (PIN_UNAVAILABLE) when its files are gone or changed."""
        for plugin in self._plugins.values():
            if plugin.distribution != pin.distribution:
                continue
            for generation in plugin.generations:
                if generation.digest == pin.digest and generation.present and generation.manifest is not None:
                    return generation
        raise FailedPrecondition(
            f"{pin.distribution} {pin.version} with digest {pin.digest[:12]} is not installed any more; "
            "install it again, or retry the job with its plugins pinned anew",
            reason="PIN_UNAVAILABLE",
            metadata={"distribution": pin.distribution, "version": pin.version, "digest": pin.digest},
        )

    def put(self, plugin: Plugin) -> None:
        """Take `plugin` in, in the place of the one with its id: from the next line on its active generation answers.
        Does nothing but assign, so that on the loop no call sees half of it. Raises FailedPrecondition
        (COMPONENT_CONFLICT) and changes nothing when another plugin answers for one of its components."""
        plugin = self._stamped(plugin)
        active = plugin.active
        components = {} if active is None else _components(active)
        if active is not None:
            self.check_conflict(active)
        canary = Canary.of(plugin, self._canaries.get(plugin.id))
        proxy = self.manager.get_plugin(plugin.id)
        if active is None or proxy is None:
            self.remove(plugin.id)
        else:
            self._forget(plugin.id)
            proxy.components = components
        if active is not None and proxy is None:
            self.manager.register(PluginProxy(active), name=plugin.id)
        self._components.update(components)
        if canary is not None:
            self._canaries[plugin.id] = canary
        self._plugins[plugin.id] = plugin
        self._plugins = dict(sorted(self._plugins.items()))

    def remove(self, plugin_id: str) -> None:
        """Forget a plugin. No-op when it is not there."""
        if self.manager.has_plugin(plugin_id):
            self.manager.unregister(name=plugin_id)
        self._forget(plugin_id)

    def _forget(self, plugin_id: str) -> None:
        self._selected.clear()
        self._canaries.pop(plugin_id, None)
        self._plugins.pop(plugin_id, None)
        gone = [name for name, c in self._components.items() if c.generation.plugin_id == plugin_id]
        for name in gone:
            del self._components[name]

    def check_conflict(self, generation: Generation) -> None:
        """Raises FailedPrecondition (COMPONENT_CONFLICT) when another plugin answers for one of its components."""
        self._check_own_names(generation)
        for name in sorted(generation.entries):
            owner = self._components.get(name)
            if owner is not None and owner.generation.plugin_id != generation.plugin_id:
                raise FailedPrecondition(
                    f"plugin {owner.generation.plugin_id!r} provides {name} already; uninstall one of the two",
                    reason="COMPONENT_CONFLICT",
                    metadata={"component": name, "plugin": owner.generation.plugin_id},
                )

    def _check_own_names(self, generation: Generation) -> None:
        """Packages and files of own gRPC services are one plugin's each, for reflection tells of them by name."""
        names = _own_names(generation)
        for other in self._components.values() if names else ():
            if other.generation.plugin_id != generation.plugin_id and other.manifest.own is not None:
                shared = sorted(names & other.manifest.own.names)
                if shared:
                    raise FailedPrecondition(
                        f"plugin {other.generation.plugin_id!r} defines the {shared[0].replace(':', ' ')} already; "
                        "uninstall one of the two",
                        reason="COMPONENT_CONFLICT",
                        metadata={"component": other.name, "plugin": other.generation.plugin_id},
                    )

    def redact(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`fields` with every hook's replacements applied."""
        clean = dict(fields)
        for replaced in self.manager.hook.redact(fields=fields):
            clean.update(replaced or {})
        return clean

    def _add(self, plugin: Plugin) -> None:
        active = plugin.active
        if active is not None:
            proxy = PluginProxy(active)
            try:
                self.check_conflict(active)
            except FailedPrecondition as exc:
                plugin = _refused(plugin, active, exc.message)
            else:
                self._components.update(proxy.components)
                self.manager.register(proxy, name=plugin.id)
        canary = Canary.of(plugin, None)
        if canary is not None:
            self._canaries[plugin.id] = canary
        self._plugins[plugin.id] = plugin

    def _stamped(self, plugin: Plugin) -> Plugin:
        """`plugin`, its generations with the time of their last change of state."""
        known = self._plugins.get(plugin.id)
        before = {g.number: g for g in known.generations} if known is not None else {}
        now = self._now()
        stamped = []
        for generation in plugin.generations:
            was = before.get(generation.number)
            same = was is not None and was.state is generation.state
            stamped.append(replace(generation, state_time=was.state_time if same and was is not None else now))
        return replace(plugin, generations=tuple(stamped))

    def _unknown(self, name: str) -> NotFound:
        kind = name.partition("/")[0]
        there = ", ".join(c.name for c in self.components(kind)) or f"no component of kind {kind!r}"
        failed = next(
            (g for p in self._plugins.values() for g in p.generations
             if g.state is GenerationState.FAILED and name in g.entries), None,
        )  # fmt: skip
        why = f"; {failed.distribution} would provide it, but: {failed.failure_message}" if failed else ""
        return NotFound(
            f"there is no {name!r}; installed: {there}{why}", reason="COMPONENT_UNKNOWN", metadata={"component": name}
        )


def _own_names(generation: Generation) -> frozenset[str]:
    components = generation.manifest.components.values() if generation.manifest is not None else ()
    return frozenset(name for c in components if c.own is not None for name in c.own.names)


def _components(generation: Generation) -> dict[str, ActiveComponent]:
    assert generation.manifest is not None, "an active generation has a manifest"
    return {name: ActiveComponent(c, generation) for name, c in generation.manifest.components.items()}


def _refused(plugin: Plugin, active: Generation, message: str) -> Plugin:
    log.warning("plugin_failed", plugin=plugin.id, reason="COMPONENT_CONFLICT", error=message)
    failed = replace(
        active,
        state=GenerationState.FAILED,
        activate_time=None,
        failure_reason="COMPONENT_CONFLICT",
        failure_message=message,
    )
    return replace(plugin, generations=tuple(failed if g is active else g for g in plugin.generations))
