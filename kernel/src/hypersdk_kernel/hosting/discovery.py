"""Discovery: the plugins of a Python environment and of source folders, found by their entry points and read without
importing any.

A distribution with entry points in `hypersdk.<kind>` is a plugin. Its manifest is a file of the package that the
entry points lead into. Whatever is wrong with one plugin makes its generation FAILED, with the reason, and harms
nothing else.

Not here: whether the plugin can be imported (its host will tell), what other distributions it needs.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

import structlog
from hypersdk.errors import FailedPrecondition, HyperError, Unsupported, from_exception
from hypersdk.plugin.manifest import API_VERSION, KINDS, MAX_DESCRIPTOR_BYTES, Manifest
from importlib_metadata import Distribution

from hypersdk_kernel.hosting.digest import digest_files, package_files
from hypersdk_kernel.hosting.sourcetree import SourceDistribution
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin

GROUP = "hypersdk."
MANIFEST = "manifest.json"

log = structlog.get_logger(__name__)


def discover(now: float, path: Sequence[str] | None = None, trees: Sequence[Path] = ()) -> list[Plugin]:
    """The plugins on `path` (None: the kernel's own module path), in order of id, each with one generation, ACTIVE or
    FAILED. `trees`: source folders, which come before what is installed under the same name; one that is none is
    logged and passed over. `now`: seconds since the epoch. Reads files: 40 plugins take some 50 ms."""
    found: dict[str, Plugin] = {}
    names: set[str] = set()
    for distribution, where in _candidates(path, trees):
        entries = _entries(distribution)
        if not entries:
            continue
        normalized = normalize(distribution.name)
        if normalized in names:  # a later folder of the path, which Python would not import either
            continue
        names.add(normalized)
        plugin_id = plugin_id_of(normalized, found)
        found[plugin_id] = _plugin(plugin_id, distribution, entries, now, where)
    return [found[i] for i in sorted(found)]


def source_folders(generation: Generation) -> tuple[Path, ...]:
    """The folders of the packages that an editable generation is made of; none when they cannot be found."""
    path = generation.search_path or None
    try:
        packages = [_package(entry, path) for entry in sorted(set(generation.entries.values()))]
    except HyperError:
        return ()
    return tuple(dict.fromkeys(folder for package in packages for folder in package.folders[:1]))


def normalize(name: str) -> str:
    """A distribution's name as it compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def plugin_id_of(normalized: str, taken: Mapping[str, object]) -> str:
    """The plugin's resource id: the name without a leading `hypersdk-`, unless that is taken or no id (AIP-122);
    then the whole name, and a number behind it when that is taken too."""
    short = normalized.removeprefix("hypersdk-")
    plugin_id = short if short not in taken else normalized
    if not plugin_id[:1].isalpha():
        plugin_id = f"p-{plugin_id}"
    plugin_id = plugin_id[:63].rstrip("-")
    names = (f"{plugin_id[:58].rstrip('-')}-{number}" for number in itertools.count(2))
    return plugin_id if plugin_id not in taken else next(name for name in names if name not in taken)


def _candidates(
    path: Sequence[str] | None, trees: Sequence[Path]
) -> Iterator[tuple[Distribution, Sequence[str] | None]]:
    """Distributions, each with the module path on which it is imported (None: the kernel's own)."""
    for tree in trees:
        try:
            source = SourceDistribution(tree)
        except HyperError as exc:
            log.error("source_tree_refused", path=str(tree), reason=exc.reason, error=exc.message)
            continue
        yield source, [str(source.modules)]
    for distribution in Distribution.discover() if path is None else Distribution.discover(path=list(path)):
        yield distribution, path


def _entries(distribution: Distribution) -> dict[str, str]:
    """Component name → `module:Class`, of the groups that are ours."""
    try:
        points = distribution.entry_points
        return {
            f"{point.group.removeprefix(GROUP)}/{point.name}": point.value
            for point in points
            if point.group.startswith(GROUP) and point.group.removeprefix(GROUP) in KINDS
        }
    except Exception as exc:  # noqa: BLE001  an unreadable entry_points.txt of any distribution, ours or not
        log.warning("distribution_unreadable", distribution=str(distribution.metadata["Name"]), error=str(exc))
        return {}


def _plugin(
    plugin_id: str, distribution: Distribution, entries: Mapping[str, str], now: float, path: Sequence[str] | None
) -> Plugin:
    origin = _origin(distribution)
    digest, manifest, failure = "", None, None
    try:
        packages = [_package(entry, path) for entry in sorted(set(entries.values()))]
        digest = _digest(distribution, origin, packages)
        manifest = _manifest(packages)
        check_manifest(manifest, distribution.name, entries)
    except Exception as exc:  # noqa: BLE001  one broken plugin, whatever is broken in it, never stops the kernel
        failure = from_exception(exc, doing=f"plugin {distribution.name}")
        log.warning("plugin_failed", plugin=plugin_id, reason=failure.reason, error=failure.message)
    generation = Generation(
        plugin_id=plugin_id,
        number=1,
        distribution=distribution.name,
        version=distribution.version,
        digest=digest,
        origin=origin,
        state=GenerationState.ACTIVE if failure is None else GenerationState.FAILED,
        entries=dict(entries),
        manifest=manifest,
        search_path=tuple(path or ()),
        activate_time=now if failure is None else None,
        failure_reason=failure.reason if failure else "",
        failure_message=failure.message if failure else "",
    )
    summary = manifest.summary if manifest else str(distribution.metadata.get("Summary") or "")
    return Plugin(plugin_id, distribution.name, summary, (generation,))


def check_manifest(manifest: Manifest, distribution: str, entries: Mapping[str, str]) -> None:
    """Raise for a manifest that speaks of another plugin, another api, or other components than its distribution has:
    Unsupported (API_VERSION_UNSUPPORTED), FailedPrecondition (MANIFEST_UNTRUE)."""
    major, minor = manifest.api_version
    if major != API_VERSION[0] or minor > API_VERSION[1]:
        ours = ".".join(map(str, API_VERSION))
        text = f"it was written for api {major}.{minor}, this kernel has {ours}; install a matching version of either"
        raise Unsupported(text, reason="API_VERSION_UNSUPPORTED")
    faults = []
    if normalize(manifest.name) != normalize(distribution):
        faults.append(f"it names the distribution {manifest.name!r}, which is {distribution!r}")
    if missing := sorted(manifest.components.keys() - entries.keys()):
        faults.append(f"no entry point for {', '.join(missing)}")
    if extra := sorted(entries.keys() - manifest.components.keys()):
        faults.append(f"it does not mention {', '.join(extra)}")
    if faults:
        raise FailedPrecondition(
            f"{MANIFEST} and entry points disagree: {'; '.join(faults)}", reason="MANIFEST_UNTRUE"
        )


@dataclass(frozen=True, slots=True)
class _Package:
    """Where an entry point leads: the top-level name, and the folders from there down to its module."""

    name: str
    folders: tuple[Path, ...]


def _package(entry: str, path: Sequence[str] | None) -> _Package:
    module = entry.partition(":")[0].strip()
    top, *rest = module.split(".")
    spec = _top_spec(top, path)
    if spec is None:
        raise FailedPrecondition(f"its module {module!r} is not installed", reason="PLUGIN_MODULE_MISSING")
    folders: list[Path] = []
    locations = spec.submodule_search_locations
    name = top
    while locations:
        folders.extend(Path(location) for location in locations)
        if not rest:
            break
        name = f"{name}.{rest.pop(0)}"
        below = PathFinder.find_spec(name, list(locations))
        if below is None or (rest and not below.submodule_search_locations):
            raise FailedPrecondition(f"its module {module!r} is not installed", reason="PLUGIN_MODULE_MISSING")
        locations = below.submodule_search_locations
    return _Package(top, tuple(folders))


def _top_spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Finding a top-level name imports nothing; a dotted one would import its parents."""
    if path is not None:
        return PathFinder.find_spec(name, list(path))
    return PathFinder.find_spec(name) or importlib.util.find_spec(name)  # the latter: finders of other installers


def _manifest(packages: Sequence[_Package]) -> Manifest:
    for folder in _folders(packages):
        try:
            text = (folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            continue
        return _with_own_services(Manifest.parse(text), folder)
    names = ", ".join(sorted({p.name for p in packages}))
    raise FailedPrecondition(
        f"no {MANIFEST} in the package {names}; ship it as package data beside the entry point's module",
        reason="MANIFEST_MISSING",
    )


def _with_own_services(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with the descriptor sets that it names. Raises FailedPrecondition (DESCRIPTOR_SET_INVALID)."""
    components = dict(manifest.components)
    taken: dict[str, str] = {}
    for name, component in manifest.components.items():
        if not component.descriptor_set:
            continue
        from hypersdk_kernel.hosting.ownapi import judge  # not for the many plugins that have none

        try:
            with (folder / component.descriptor_set).open("rb") as file:
                own = judge(component, file.read(MAX_DESCRIPTOR_BYTES + 1))
        except OSError as exc:
            raise FailedPrecondition(
                f"the descriptor set of {name}, {component.descriptor_set}, cannot be read: {exc.strerror}",
                reason="DESCRIPTOR_SET_INVALID",
            ) from exc
        for one in own.names:
            if one in taken:
                text = f"{name} and {taken[one]} both define the {one.replace(':', ' ')}"
                raise FailedPrecondition(text, reason="DESCRIPTOR_SET_INVALID")
            taken[one] = name
        components[name] = replace(component, own=own)
    return replace(manifest, components=components)


def _folders(packages: Sequence[_Package]) -> Iterator[Path]:
    for package in packages:
        yield from package.folders


def _origin(distribution: Distribution) -> str:
    """PEP 610: an editable install says so in direct_url.json."""
    text = distribution.read_text("direct_url.json")
    try:
        editable = bool(json.loads(text)["dir_info"]["editable"]) if text else False
    except (ValueError, KeyError, TypeError):
        editable = False
    return "editable" if editable else "bundled"


def _digest(distribution: Distribution, origin: str, packages: Sequence[_Package]) -> str:
    files: dict[str, Path] = {}
    if origin != "editable":
        # Not `distribution.files`: that leaves out what is missing on disk.
        for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            if row and not _is_note(row[0]):
                files[row[0]] = Path(str(distribution.locate_file(row[0])))
    if not files:  # editable, or installed by something that leaves no RECORD
        for package in packages:
            for folder in package.folders[:1]:
                files.update(package_files(folder, package.name))
    points = distribution.read_text("entry_points.txt") or ""
    try:
        return digest_files(files, {"entry_points.txt": points.encode()})
    except OSError as exc:
        error = from_exception(exc)
        raise FailedPrecondition(
            f"a file of it cannot be read: {error.message}; install it again", reason="PLUGIN_FILES_MISSING"
        ) from exc


def _is_note(file: str) -> bool:
    """Of the installer, not of the plugin: metadata folders, byte code, and scripts outside the module path."""
    parts = file.split("/")
    return (
        parts[0].endswith((".dist-info", ".egg-info"))
        or parts[0] == ".."
        or "__pycache__" in parts
        or file.endswith((".pyc", ".pyo"))
    )
