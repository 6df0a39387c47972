"""DirectoryProvider: machines are files of one directory, disks are opened through the installed image
formats.

The directory is read anew for every call, so files may come and go. Images are not frozen: whoever runs a
machine on an image while it is exported gets a torn copy, so shut it down first.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.data.ovf.descriptor import OvfDisk
from hypersdk.data.ovf.names import printable
from hypersdk.errors import FieldViolation, HyperError, InvalidArgument, NotFound, from_exception
from hypersdk.plugin import Health, Machine, MachineDisk, Page, Provider, TaskContext

from hypersdk_provider_directory.catalogue import IMAGE_FORMATS, PACKAGES, Catalogue, Entry
from hypersdk_provider_directory.names import page_token as make_page_token
from hypersdk_provider_directory.names import parse_page_token, resource_id
from hypersdk_provider_directory.package import Package, Window

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource

_DEFAULT_PAGE = 50
_MAX_PAGE = 1000
_ONLY_DISK = "disk-0"


class DirectoryProvider(Provider):
    """Thread-safe once configured."""

    _catalogue: Catalogue

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:  # noqa: ARG002 has no secrets
        path = config.get("path")
        if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
            raise InvalidArgument(
                "provider/directory needs `path`, the absolute path of a directory",
                reason="CONFIG_INVALID",
                violations=(FieldViolation("config.path", "must be an absolute path"),),
            )
        self._catalogue = Catalogue(Path(path))

    def health(self) -> Health:
        start = time.monotonic()
        path = self._catalogue.root
        details = {"path": printable(str(path))}
        try:
            with os.scandir(path) as found:
                next(found, None)
        except OSError as exc:
            message = from_exception(exc, doing=f"listing {printable(str(path))}").message
            return Health(False, message, time.monotonic() - start, details)
        return Health(True, "", time.monotonic() - start, details)

    def machines(self, page_size: int, page_token: str) -> Page[Machine]:
        after = parse_page_token(page_token)
        count = min(page_size, _MAX_PAGE) if page_size > 0 else _DEFAULT_PAGE
        entries = self._catalogue.entries()
        start = bisect_right(entries, after, key=lambda e: os.fsencode(e.name)) if after else 0
        shown = entries[start : start + count]
        token = make_page_token(shown[-1].name) if start + count < len(entries) else ""
        return Page([self._listed(entry) for entry in shown], token)

    def machine(self, machine_id: str) -> Machine:
        return self._machine(self._entry(machine_id))

    def open_source(self, machine_id: str, disk_id: str, context: TaskContext) -> BlockSource:
        """Raises NotFound (DISK_NOT_FOUND) and what the image's format raises."""
        entry = self._entry(machine_id)
        if entry.extension not in PACKAGES:
            if disk_id != _ONLY_DISK:
                raise _no_disk(entry, disk_id)
            window, hint = Window(self._catalogue.path(entry.name)), _image_format(entry.name)
        else:
            package = self._catalogue.package(entry.name)
            disk = next((d for d in package.descriptor.disks if _disk_id(d) == disk_id), None)
            if disk is None:
                raise _no_disk(entry, disk_id)
            if disk.file is None:
                from hypersdk.data.blank import BlankSource

                return BlankSource(max(disk.capacity_bytes, 0))
            window, hint = package.locate(disk), _packaged_format(disk)
        from hypersdk_provider_directory.opening import open_window

        return open_window(window, hint, context)

    def _entry(self, machine_id: str) -> Entry:
        for entry in self._catalogue.entries():
            if entry.id == machine_id:
                return entry
        raise NotFound(
            f"no machine {machine_id!r} in {printable(str(self._catalogue.root))}; its file was removed or renamed",
            reason="MACHINE_NOT_FOUND", metadata={"machine": machine_id},
        )  # fmt: skip

    def _listed(self, entry: Entry) -> Machine:
        """As `_machine`, but one bad package must not hide the others: it is listed without disks."""
        try:
            return self._machine(entry)
        except HyperError as exc:
            details = {"kind": entry.extension, "error": exc.reason, "error_message": exc.message}
            return Machine(entry.id, printable(entry.stem), printable(entry.name), details=details)

    def _machine(self, entry: Entry) -> Machine:
        if entry.extension in PACKAGES:
            return _package_machine(entry, self._catalogue.package(entry.name))
        path = self._catalogue.path(entry.name)
        try:
            status = path.stat()
        except OSError as exc:
            raise from_exception(exc, doing="looking at an image") from exc
        image_format = _image_format(entry.name)
        disk = MachineDisk(
            id=_ONLY_DISK,
            display_name=printable(entry.name),
            size_bytes=status.st_size if image_format == "raw" else -1,
            format=image_format,
            platform_id=printable(entry.name),
            allocated_bytes=status.st_blocks * 512,
            details={"file_bytes": str(status.st_size), "content_version": _version(status)},
        )
        return Machine(
            entry.id,
            printable(entry.stem),
            printable(entry.name),
            (disk,),
            power_state="off",
            details={"kind": "image"},
        )


def _package_machine(entry: Entry, package: Package) -> Machine:
    descriptor = package.descriptor
    return Machine(
        id=entry.id,
        display_name=printable(descriptor.name) or printable(entry.stem),
        platform_id=printable(entry.name),
        disks=tuple(_package_disk(package, disk) for disk in descriptor.disks),
        nics=descriptor.nics,
        power_state="off",
        cpu_count=descriptor.cpu_count,
        memory_bytes=descriptor.memory_bytes,
        firmware=descriptor.firmware,
        guest_os=printable(descriptor.guest_os),
        details={"kind": entry.extension},
    )


def _package_disk(package: Package, disk: OvfDisk) -> MachineDisk:
    allocated = 0 if disk.file is None else -1
    details: dict[str, str] = {}
    if disk.file is not None:
        try:
            window = package.locate(disk)
            status = window.path.stat()
            allocated = status.st_blocks * 512 if window.length < 0 else window.length
            details["content_version"] = _version(status)
        except (OSError, HyperError) as exc:
            details["error"] = from_exception(exc).reason
    return MachineDisk(
        id=_disk_id(disk),
        display_name=printable(disk.id),
        size_bytes=disk.capacity_bytes,
        format=_packaged_format(disk) if disk.file is not None else "",
        platform_id=printable(disk.file.href) if disk.file is not None else "",
        allocated_bytes=allocated,
        bus=disk.bus,
        details=details,
    )


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _disk_id(disk: OvfDisk) -> str:
    return resource_id(disk.id)


def _image_format(name: str) -> str:
    """The format that the name stands for. A `-flat.vmdk` without its descriptor is the bare disk."""
    if name.lower().endswith("-flat.vmdk"):
        return "raw"
    return IMAGE_FORMATS.get(name.rpartition(".")[2].lower(), "")


def _packaged_format(disk: OvfDisk) -> str:
    if "vmdk" in disk.format_url.lower():
        return "vmdk"
    return _image_format(disk.file.href.removesuffix(".gz")) if disk.file is not None else ""


def _no_disk(entry: Entry, disk_id: str) -> NotFound:
    return NotFound(
        f"machine {entry.id!r} has no disk {disk_id!r}", reason="DISK_NOT_FOUND", metadata={"disk": disk_id}
    )
