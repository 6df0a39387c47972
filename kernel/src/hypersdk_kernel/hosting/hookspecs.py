"""The hooks that pass through pluggy, one function each. A hook stands here from the day on which something calls it.

The plugin manager holds no plugin but proxies: kernel objects made from manifests (registry.PluginProxy).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from hypersdk_kernel.model.plugin import ActiveComponent

NAMESPACE = "hypersdk"

hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


@hookspec(firstresult=True)
def select_provider(name: str) -> ActiveComponent | None:
    """Which component answers `name` (`kind/id`, or `kind/alias`)? The first answer that is not None wins; the one
    who registered last is asked first. Called once for each name after each change of generations, then
    remembered."""


@hookspec
def redact(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The replacements for those of a log record's `fields` that must not be written. Every answer is applied. Called
    for each record that a host sends, so it must be quick."""
