"""Which of a wheel's requirements the kernel's own environment meets already.

A plugin's child has the kernel's environment behind the plugin's own folder on its module path, so what is met there
need not be installed again. `hypersdk` itself never is: host and plugin must share one SDK.

Not here: resolving and installing the rest, which is uv's part (install).
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SHARED = "hypersdk"


def unmet(requires: Iterable[Requirement]) -> list[Requirement]:
    """Those that hold on this machine and that no distribution of the environment satisfies. A requirement with extras
    counts as unmet: whether the extras are there is for a resolver to say. So does another `hypersdk` than ours."""
    out = []
    for requirement in requires:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        shared = canonicalize_name(requirement.name) == SHARED
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            out.append(requirement)
            continue
        if (requirement.extras and not shared) or not requirement.specifier.contains(version, prereleases=True):
            out.append(requirement)
    return out
