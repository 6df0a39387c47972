"""Is a package what its manifest says? Reads every file of it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf import manifest
from hypersdk.data.ovf.package import Package, open_member
from hypersdk.errors import HyperError, NotFound


@dataclass(frozen=True, slots=True)
class Verification:
    """`algorithms`: of the manifest, empty when the package has none. `faults`: one line each, for a person."""

    algorithms: tuple[str, ...] = ()
    verified: int = 0
    faults: tuple[str, ...] = ()


def read_manifest(file: ImageFile, package: Package) -> tuple[manifest.Digest, ...]:
    """The package's digests; none when it has no manifest. Raises MalformedImage (OVF_MANIFEST_MALFORMED)."""
    try:
        opened = _open_manifest(file, package)
    except NotFound:
        return ()
    with opened as text:
        data = text.pread(0, min(text.size, manifest.MAX_BYTES + 1), structure="OVF manifest")
        return manifest.parse(data, f"{package.what}: {text.path.name}")


def verify(file: ImageFile, package: Package, check: Callable[[], None] | None = None) -> Verification:
    """Hold every file of References, and the descriptor, to its digest. What the manifest does not name is a fault, and
    so is a file that it names and the package lacks. `check` may raise to cancel."""
    try:
        digests = read_manifest(file, package)
    except HyperError as exc:
        return Verification(faults=(exc.message,))
    if not digests:
        return Verification()
    faults = []
    for digest in digests:
        fault = _fault(file, package, digest, check)
        if fault:
            faults.append(f"{package.what}: {fault}")
    named = {digest.name for digest in digests}
    faults.extend(
        f"{package.what}: the manifest has no digest of {reference.href[:80]!r}"
        for reference in package.descriptor.references
        if named.isdisjoint(package.names(reference))
    )
    if package.descriptor_name not in named:
        faults.append(f"{package.what}: the manifest has no digest of the descriptor")
    return Verification(tuple(sorted({d.algorithm for d in digests})), len(digests), tuple(faults))


def _open_manifest(file: ImageFile, package: Package) -> ImageFile:
    if package.members is not None:
        if not package.manifest:
            raise package.missing(".mf")
        return open_member(file, package.members[package.manifest])
    return file.open_sibling(f"{PurePath(package.descriptor_name).stem}.mf", structure="OVF manifest")


def _fault(file: ImageFile, package: Package, digest: manifest.Digest, check: Callable[[], None] | None) -> str:
    """What is wrong with the file that `digest` is of, or nothing."""
    try:
        with _open_named(file, package, digest.name) as named:
            found = manifest.hash_range(named, 0, named.size, digest.algorithm, check)
    except NotFound:
        return f"the manifest names {digest.name[:80]!r}, which is not there"
    if manifest.agrees(digest, found):
        return ""
    return f"{digest.name[:80]!r} does not have the {digest.algorithm} digest that the manifest tells"


def _open_named(file: ImageFile, package: Package, name: str) -> ImageFile:
    if package.members is not None:
        if name not in package.members:
            raise package.missing(name)
        return open_member(file, package.members[name])
    if name == package.descriptor_name:
        return file.window(0, file.size)
    return file.open_sibling(name, structure="OVF manifest")
