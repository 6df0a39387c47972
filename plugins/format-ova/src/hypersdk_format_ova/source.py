"""OvaSource: one disk of a package; `info` tells of the disk and of the package around it."""

from __future__ import annotations

from typing import Any

from hypersdk.data.filters.forward import ForwardingSource
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.descriptor import OvfDisk
from hypersdk.data.ovf.names import printable
from hypersdk.data.ovf.package import Package
from hypersdk.data.ovf.verify import read_manifest
from hypersdk.data.source import BlockSource
from hypersdk.errors import MalformedImage


class OvaSource(ForwardingSource):
    """Owns the package's file and the disk's source; `close` closes both."""

    def __init__(self, file: ImageFile, package: Package, disk: OvfDisk, inner: BlockSource) -> None:
        super().__init__(inner)
        self._file = file
        self._package = package
        self._disk = disk

    def info(self) -> dict[str, Any]:
        """The disk's own, with its format as `details.disk_format`. The manifest is told, not verified; see `check`."""
        disk = self._inner.info()
        package = self._package
        machine = package.descriptor
        return {
            **disk,
            "format": "ova",
            "details": {
                **disk.get("details", {}),
                "disk": printable(self._disk.id),
                "disk_format": disk["format"],
                "disks": [_disk(found) for found in machine.disks],
                "machine": printable(machine.name),
                "cpu_count": machine.cpu_count,
                "memory_bytes": machine.memory_bytes,
                "firmware": machine.firmware,
                "guest_os": printable(machine.guest_os),
                "nics": [printable(nic.network) for nic in machine.nics],
                "archive": package.members is not None,
                "manifest": self._manifest(),
                "certificate": printable(package.certificate),
            },
        }

    def _manifest(self) -> str:
        """The algorithms of the manifest, "none", or "malformed"."""
        try:
            digests = read_manifest(self._file, self._package)
        except MalformedImage:
            return "malformed"
        return ",".join(sorted({digest.algorithm for digest in digests})) or "none"

    def close(self) -> None:
        super().close()
        self._file.close()


def _disk(disk: OvfDisk) -> dict[str, Any]:
    return {
        "id": printable(disk.id),
        "file": printable(disk.file.href) if disk.file is not None else "",
        "virtual_size": disk.capacity_bytes,
        "bus": disk.bus,
    }
