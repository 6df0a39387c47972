"""ForeignProvider: a provider that is not written in Python, as the Provider that tasks know.

What it is asked goes as calls to a host of this runner's own (foreign_host); disks come back as addresses of NBD
servers that the host runs on sockets in its folder, so bulk bytes go from the host into this process and nowhere else.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.data.filters.forward import ForwardingSource
from hypersdk.data.nbd import NbdAddress, NbdSource
from hypersdk.errors import HyperError, Internal, Unavailable
from hypersdk.plugin.provider import ChangeSet, Health, Machine, Page, Provider
from hypersdk.runner.foreign_host import ForeignHost
from hypersdk.runner.foreign_machine import machine_of, text_of
from hypersdk.runner.log import AttemptLog
from hypersdk.runner.spec import ComponentSpec

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource
    from hypersdk.plugin.task import TaskContext

_SERVICE = "hypersdk.api.inventory.v1.InventoryService"
_RESOURCE = "resource"
_numbers = itertools.count(1)


class ForeignProvider(Provider):
    """Thread-safe as far as its host is. Its host is started by the first call."""

    def __init__(self, connection: str, name: str, component: ComponentSpec, folder: Path, log: AttemptLog) -> None:
        self._name = name
        self._component = component
        self._folder = folder
        self._log = log
        self._connection: dict[str, Any] = {"name": connection, "config": {}, "secrets": {}}
        self._lock = threading.Lock()
        self._host: ForeignHost | None = None
        self._closed = False

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self._connection |= {"config": dict(config), "secrets": dict(secrets)}

    def health(self) -> Health:
        found = self._call("Health", {})
        return Health(bool(found.get("ok")), text_of(found.get("message", ""), "health.message"))

    def machines(self, page_size: int, page_token: str) -> Page[Machine]:
        request = {"parent": self._connection["name"], "page_size": page_size, "page_token": page_token}
        found = self._call("ListMachines", request, service=_SERVICE)
        rows = found.get("machines", [])
        if not isinstance(rows, list):
            raise Internal(f"{self._name} listed machines that are no list", reason="PLUGIN_RESULT_INVALID")
        return Page([machine_of(row) for row in rows], text_of(found.get("next_page_token", ""), "next_page_token"))

    def machine(self, machine_id: str) -> Machine:
        name = f"{self._connection['name']}/machines/{machine_id}"
        return machine_of(self._call("GetMachine", {"name": name}, service=_SERVICE))

    def open_source(self, machine_id: str, disk_id: str, context: TaskContext) -> BlockSource:
        return self._open(machine_id, disk_id, context, {})[0]

    def changes(self, machine_id: str, disk_id: str, since: str, context: TaskContext) -> ChangeSet:
        source, told, bitmap = self._open(machine_id, disk_id, context, {"since": since})
        found = told.get("changes")
        if not isinstance(found, dict):
            source.close()
            raise Internal(f"{self._name} opened a disk and did not tell its changes", reason="PLUGIN_RESULT_INVALID")
        token, reason = text_of(found.get("token", ""), "token"), text_of(found.get("reason", ""), "reason")
        if found.get("full", True) or not bitmap:
            return ChangeSet(True, source.extents(), token, reason or "the platform could not tell")
        return ChangeSet(False, source.changes(bitmap), token, reason)

    def cleanup(self, record: Mapping[str, Any]) -> None:
        self._call("Cleanup", {"record": dict(record)})

    def close(self) -> None:
        with self._lock:
            self._closed = True
            host, self._host = self._host, None
        if host is not None:
            host.close()

    def _call(self, method: str, request: Mapping[str, Any], *, service: str = "") -> dict[str, Any]:
        with self._lock:
            if self._closed:
                raise Unavailable(f"the host of {self._name} was ended", reason="CONNECTION_CLOSED")
            if self._host is None:
                folder = self._folder / f"{self._name.replace('/', '-')}-{next(_numbers)}"
                self._host = ForeignHost(self._name, self._component, folder, self._log)
            host = self._host
        return host.call(method, request, self._connection, service=service)

    def _open(
        self, machine_id: str, disk_id: str, context: TaskContext, more: Mapping[str, Any]
    ) -> tuple[_Disk, dict[str, Any], str]:
        handle = f"disk-{next(_numbers)}"
        name = f"{self._connection['name']}/machines/{machine_id}/disks/{disk_id}"
        told = self._call("OpenDisk", {"name": name, "handle": handle, **more})
        resource = told.get(_RESOURCE)
        resource_id = ""
        if isinstance(resource, dict):
            resource_id = text_of(resource.get("id"), "resource.id")
            record = resource.get("record")
            held = {**(record if isinstance(record, dict) else {}), "connection": self._connection["name"]}
            context.acquired(resource_id, self._name, held)

        def release() -> None:
            self._call("CloseDisk", {"handle": handle})
            if resource_id:
                context.released(resource_id)

        try:
            address, bitmap = self._address(told.get("nbd"))
            source = NbdSource(address, bitmaps=(bitmap,) if bitmap else ())
        except BaseException:
            self._close_quietly(release)
            raise
        return _Disk(source, lambda: self._close_quietly(release)), told, bitmap

    def _address(self, nbd: Any) -> tuple[NbdAddress, str]:
        assert self._host is not None
        if not isinstance(nbd, dict):
            raise Internal(f"{self._name} opened a disk and did not say where", reason="PLUGIN_RESULT_INVALID")
        folder = self._host.folder
        path = folder / text_of(nbd.get("socket"), "nbd.socket")
        if path.parent != folder or path.name in {"", ".", ".."}:
            raise Internal(
                f"{self._name} serves a disk on {str(path)[:200]!r}, outside its folder", reason="PLUGIN_RESULT_INVALID"
            )
        bitmap = nbd.get("bitmap")
        export = text_of(nbd.get("export", ""), "nbd.export")
        return NbdAddress(path=str(path), export=export), text_of(bitmap, "nbd.bitmap") if bitmap is not None else ""

    def _close_quietly(self, release: Any) -> None:
        """What is not released stays in the journal, and is cleaned up after the attempt."""
        try:
            release()
        except HyperError as exc:
            self._log.write("disk_close_failed", "warning", {"component": self._name, "error": exc.message})


class _Disk(ForwardingSource):
    """The NBD source, whose `close` also tells the host."""

    _inner: NbdSource

    def __init__(self, inner: NbdSource, closed: Any) -> None:
        super().__init__(inner)
        self._closed = closed

    def changes(self, bitmap: str) -> Any:
        return self._inner.changes(bitmap)

    def info(self) -> dict[str, Any]:
        return self._inner.info()

    def close(self) -> None:
        self._inner.close()
        closed, self._closed = self._closed, lambda: None
        closed()
