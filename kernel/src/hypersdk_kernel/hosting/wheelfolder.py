"""`plugin_wheels`: a folder of wheels, by name and version.

Only file names are read here; whether a wheel is sound is judged when it is installed (wheel).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from hypersdk import signing
from hypersdk.errors import FailedPrecondition, HyperError
from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

log = structlog.get_logger(__name__)


def wheels(folder: Path | None) -> dict[str, list[tuple[Version, Path]]]:
    """Normalized name → (version, file) of the wheels that this Python can use, lowest version first."""
    found: dict[str, list[tuple[Version, Path]]] = {}
    tags = frozenset(sys_tags())
    for path in sorted(folder.glob("*.whl")) if folder is not None else ():
        try:
            name, version, _, its_tags = parse_wheel_filename(path.name)
        except (InvalidWheelFilename, InvalidVersion):
            continue
        if its_tags & tags:
            found.setdefault(name, []).append((version, path))
    return {name: sorted(rows) for name, rows in found.items()}


def best(folder: Path | None, requirement: Requirement) -> Path | None:
    """The newest wheel of the folder that meets `requirement`; None when the folder has none of that name. Raises
    FailedPrecondition (WHEEL_VERSION_MISSING) when it has, and none fits."""
    name = canonicalize_name(requirement.name)
    rows = wheels(folder).get(name, [])
    if not rows:
        return None
    fitting = set(requirement.specifier.filter(version for version, _ in rows))
    paths = [path for version, path in rows if version in fitting]
    if not paths:
        there = ", ".join(str(version) for version, _ in rows)
        raise FailedPrecondition(
            f"plugin_wheels has {requirement.name} in versions {there}, of which none meets {requirement.specifier}; "
            "what lies there is never taken from elsewhere: put the version you want there",
            reason="WHEEL_VERSION_MISSING",
            metadata={"distribution": requirement.name, "versions": there},
        )
    return paths[-1]


def pins(folder: Path | None) -> list[str]:
    """A constraint for each name in the folder, which lets an installer take it from there and nowhere else."""
    return [f"{name} @ {rows[-1][1].absolute().as_uri()}" for name, rows in sorted(wheels(folder).items())]


def copy_signed(folder: Path | None, target: Path, keys: Mapping[str, Ed25519PublicKey]) -> None:
    """Copy the wheels whose signature beside them is right, so that what is installed is what was judged."""
    target.mkdir()
    for rows in wheels(folder).values():
        for _, path in rows:
            try:
                private = target / path.name
                shutil.copyfile(path, private)
                signing.verify(signing.digest_of(private), signing.read_signature(path), keys)
            except HyperError as exc:
                private.unlink()
                log.info("wheel_passed_over", wheel=path.name, reason=exc.reason)
