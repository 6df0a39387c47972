"""The granted plugins of an attempt: classes imported once, connections configured once, closed at the
end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

from hypersdk.errors import HyperError, InvalidArgument, NotFound, Unsupported, from_exception
from hypersdk.plugin.image_format import ImageFormat
from hypersdk.plugin.loading import create, extend_search_path, load
from hypersdk.plugin.provider import Provider
from hypersdk.plugin.storage import Storage
from hypersdk.plugin.task import Task
from hypersdk.runner.log import AttemptLog
from hypersdk.runner.spec import ComponentSpec, ConnectionSpec, RunnerSpec


class Components:
    """Thread-safe. Imports happen when something is first asked for."""

    def __init__(self, spec: RunnerSpec, log: AttemptLog) -> None:
        self._spec = spec
        self._log = log
        self._lock = threading.RLock()
        self._classes: dict[str, type[Any]] = {}
        self._formats: dict[str, ImageFormat] = {}
        self._connected: dict[str, Any] = {}
        extend_search_path([p for c in spec.components.values() for p in c.search_path])

    def task(self, task_id: str) -> Task:
        component = f"task/{task_id}"
        return cast("Task", create(component, self._class(component)))

    def provider(self, connection: str) -> Provider:
        return cast("Provider", self._connect(connection, "provider"))

    def storage(self, connection: str) -> Storage:
        return cast("Storage", self._connect(connection, "storage"))

    def component_of(self, connection: str) -> str:
        """`storage/local` and the like. Raises NotFound (CONNECTION_NOT_GRANTED)."""
        return self._granted(connection).component

    def image_format(self, name: str) -> ImageFormat:
        """By id, or by an alias of its manifest. Raises NotFound (FORMAT_UNKNOWN)."""
        for component in self._format_components():
            manifest = self._spec.components[component].manifest
            if name == component.partition("/")[2] or name in manifest.get("aliases", ()):
                return self._format(component)
        known = ", ".join(sorted(c.partition("/")[2] for c in self._format_components())) or "none"
        raise NotFound(f"no format {name!r}; installed are: {known}", reason="FORMAT_UNKNOWN")

    def image_formats(self) -> list[ImageFormat]:
        """All that can be imported; one that cannot is logged and does not hide the others."""
        found = []
        for component in self._format_components():
            try:
                found.append(self._format(component))
            except HyperError as exc:
                self._log.write("format_skipped", "warning", {"component": component, "error": exc.message})
        return found

    def cleanup(self, component: str, record: Mapping[str, Any]) -> None:
        """Have a component release what a dead runner held. Raises what it raises; NotFound or
        InvalidArgument when it is not granted or has no `cleanup`."""
        connection = record.get("connection")
        if connection:
            instance = self._connect(str(connection), component.partition("/")[0])
        else:
            instance = create(component, self._class(component))
        release = getattr(instance, "cleanup", None)
        if release is None:
            raise InvalidArgument(f"{component} has no cleanup(record)", reason="CLEANUP_UNSUPPORTED")
        release(record)

    def close(self) -> None:
        """Close what was configured. What a `close` raises is logged."""
        with self._lock:
            connected = dict(self._connected)
            self._connected.clear()
        for name, instance in connected.items():
            try:
                instance.close()
            except BaseException as exc:  # noqa: BLE001 - the attempt is over; the others must be closed too
                error = from_exception(exc)
                fields = {"connection": name, "error": error.message}
                self._log.write("connection_close_failed", "warning", fields)

    def _connect(self, connection: str, kind: str) -> Any:
        granted = self._granted(connection)
        if granted.component.partition("/")[0] != kind:
            text = f"{connection} is a connection of {granted.component}, not of a {kind}"
            raise InvalidArgument(text, reason="CONNECTION_KIND_WRONG")
        with self._lock:
            if connection not in self._connected:
                component = self._spec.components.get(granted.component)
                if component is not None and component.host:
                    instance = self._foreign(connection, granted.component, component)
                else:
                    instance = create(granted.component, self._class(granted.component))
                instance.configure(granted.config, granted.secrets)
                self._connected[connection] = instance
            return self._connected[connection]

    def _foreign(self, connection: str, name: str, component: ComponentSpec) -> Any:
        """A stand-in for a component whose host is not written in Python."""
        if not name.startswith("provider/"):
            raise _not_python(name)
        from hypersdk.runner.foreign import ForeignProvider

        return ForeignProvider(connection, name, component, self._spec.attempt_dir / "hosts", self._log)

    def _granted(self, connection: str) -> ConnectionSpec:
        granted = self._spec.connections.get(connection)
        if granted is None:
            names = ", ".join(sorted(self._spec.connections)) or "none"
            raise NotFound(
                f"{connection!r} is not granted to this job (granted: {names}); name it in a field of the "
                'job\'s spec whose schema carries "x-hypersdk-resource"',
                reason="CONNECTION_NOT_GRANTED",
            )
        return granted

    def _class(self, component: str) -> type[Any]:
        with self._lock:
            if component not in self._classes:
                wanted = self._spec.components.get(component)
                if wanted is None:
                    raise NotFound(
                        f"{component} is not among this job's components; install it or name it in `uses`",
                        reason="COMPONENT_NOT_GRANTED",
                    )
                if wanted.host:
                    raise _not_python(component)
                self._classes[component] = load(component, wanted.entry)
            return self._classes[component]

    def _format(self, component: str) -> ImageFormat:
        with self._lock:
            if component not in self._formats:
                self._formats[component] = create(component, self._class(component))
            return self._formats[component]

    def _format_components(self) -> Iterator[str]:
        return (name for name in self._spec.components if name.startswith("format/"))


def _not_python(component: str) -> Unsupported:
    return Unsupported(
        f"{component} is not written in Python, and of such components a job can use providers alone (their disks come "
        "over NBD)",
        reason="COMPONENT_NOT_PYTHON",
        metadata={"component": component},
    )
