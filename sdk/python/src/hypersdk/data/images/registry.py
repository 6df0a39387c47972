"""FormatRegistry: the image formats that are installed, found by name, alias, file name or content.

A plugin is imported when its format is first used; a plugin that fails to import fails only whoever asked
for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypersdk.data.images.entrypoints import EntryPoint, entry_points
from hypersdk.errors import HyperError, Internal, InvalidArgument, NotFound

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.plugin.image_format import ImageFormat

GROUP = "hypersdk.format"


@dataclass(slots=True)
class _Entry:
    """One format: how to get it, and once used the instance or why there is none."""

    name: str
    entry_point: EntryPoint | None = None
    instance: ImageFormat | None = None
    error: HyperError | None = None
    aliases: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    declared: bool = field(default=False)


class FormatRegistry:
    """Formats by name. Made by `installed`, or from instances (in tests and runners). Lookups are not
    locked: share one between threads only after the formats in question were used once."""

    def __init__(self, formats: Iterable[ImageFormat] = ()) -> None:
        self._entries: dict[str, _Entry] = {f.name: _Entry(f.name, instance=f, declared=True) for f in formats}

    @classmethod
    def installed(cls) -> FormatRegistry:
        """The plugins on `sys.path` with entry points in `hypersdk.format`. Imports none of them."""
        registry = cls()
        for entry_point in entry_points(GROUP):
            registry._entries[entry_point.name] = _Entry(entry_point.name, entry_point=entry_point)
        return registry

    def names(self) -> list[str]:
        """Names without aliases, sorted. A format is listed even if its plugin cannot be imported."""
        return sorted(self._entries)

    def aliases(self) -> dict[str, str]:
        """Alias → name, as the manifests declare."""
        return {alias: entry.name for entry in self._declared() for alias in entry.aliases}

    def for_extension(self, path: str | Path) -> str:
        """The format whose manifest declares the file name's extension, or an empty string."""
        suffix = Path(path).suffix.lower()
        return next((e.name for e in self._declared() if suffix and suffix in e.extensions), "")

    def get(self, name: str) -> ImageFormat:
        """The format of that name or alias. Raises NotFound (FORMAT_UNKNOWN) that lists what is installed,
        Internal (PLUGIN_IMPORT_FAILED) when its plugin raises on import."""
        key = name.strip().lower()
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries.get(self.aliases().get(key, ""))
        if entry is None:
            raise NotFound(
                f"no image format {name[:80]!r} is installed; there are {', '.join(self.names()) or 'none'}",
                reason="FORMAT_UNKNOWN",
                metadata={"format": name[:80]},
            )
        return _use(entry)

    def probe(self, file: ImageFile) -> tuple[ImageFormat, int]:
        """The format that is surest of the file, with its score (1 to 100; 1 is raw, which takes anything).
        Plugins that cannot be imported are passed over. Raises InvalidArgument (FORMAT_UNRECOGNISED)."""
        from hypersdk.plugin.image_format import PROBE_BYTES

        size = file.size
        head = file.pread(0, min(size, PROBE_BYTES))
        tail_bytes = min(size, 512)
        tail = file.pread(size - tail_bytes, tail_bytes)
        best: tuple[ImageFormat, int] | None = None
        for name in self.names():
            try:
                image_format = _use(self._entries[name])
            except HyperError:
                continue  # kept in the entry, raised to whoever asks for this format by name
            score = image_format.probe(head, tail, size)
            if score > 0 and (best is None or score > best[1]):
                best = (image_format, score)
        if best is None:
            raise InvalidArgument(
                f"{file.path.name} is of no format that is installed ({', '.join(self.names()) or 'none'}); name one",
                reason="FORMAT_UNRECOGNISED",
            )
        return best

    def _declared(self) -> Iterable[_Entry]:
        """All entries, their manifests read."""
        for entry in self._entries.values():
            if not entry.declared:
                _read_manifest(entry)
        return self._entries.values()


def _read_manifest(entry: _Entry) -> None:
    """Aliases and extensions. A plugin without a readable manifest is found by its name alone."""
    entry.declared = True
    assert entry.entry_point is not None
    from hypersdk.plugin.manifest import Manifest

    try:
        path = entry.entry_point.manifest_path()
        if path is None:
            return
        component = Manifest.parse(path.read_bytes()).components.get(f"format/{entry.name}")
    except (HyperError, OSError, ImportError, ValueError):
        return
    if component is not None:
        entry.aliases = component.aliases
        entry.extensions = tuple(e.lower() for e in component.extensions)


def _use(entry: _Entry) -> ImageFormat:
    if entry.instance is None and entry.error is None:
        assert entry.entry_point is not None
        target = f"{entry.entry_point.module}:{entry.entry_point.attribute}"
        try:
            factory = entry.entry_point.load()
            from hypersdk.plugin.image_format import ImageFormat

            instance = factory() if callable(factory) else factory
            if not isinstance(instance, ImageFormat):
                raise TypeError(f"{target} is no ImageFormat")
            entry.instance = instance
        except Exception as exc:  # noqa: BLE001  a plugin's import may raise anything; it must fail alone
            entry.error = Internal(
                f"the plugin of format {entry.name} ({target}) cannot be imported: {type(exc).__name__}: {exc}",
                reason="PLUGIN_IMPORT_FAILED",
                metadata={"format": entry.name},
            )
            entry.error.__cause__ = exc
    if entry.instance is None:
        assert entry.error is not None
        raise entry.error
    return entry.instance
