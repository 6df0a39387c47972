"""Where the parts of a new package lie: descriptor, disk, manifest, each behind its tar header.

The descriptor comes first (DSP0243 section 5.2) and tells the disk's file size, which is known last. So room for it is
reserved, filled up with white space, which XML allows behind its outermost element; the manifest may come last. Then a
package is written from front to back but for two places, the descriptor and the disk's tar header, that are written
again at the end: a file is needed, a pipe will not do. Where all disks are finished before,
`hypersdk.data.ovf.tar.TarStream` writes a package as a pure stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypersdk.data.images import FormatRegistry
from hypersdk.data.ovf import envelope
from hypersdk.data.ovf.archive import BLOCK
from hypersdk.data.ovf.tar import END
from hypersdk.data.source import BlockSource
from hypersdk.plugin import ImageFormat, Nic

from hypersdk_format_ova.options import SUBFORMAT, CreateOptions

_ALIGNMENT = 4096
_MAX_FILE = 1 << 62
_MANIFEST_MOST = 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and places in the package of one disk of `size` bytes, wholly decided by the options."""

    options: CreateOptions
    size: int

    @property
    def descriptor_name(self) -> str:
        return f"{self.options.stem}.ovf"

    @property
    def disk_name(self) -> str:
        return f"{self.options.stem}-disk1.vmdk"

    @property
    def manifest_name(self) -> str:
        return f"{self.options.stem}.mf"

    @property
    def descriptor_bytes(self) -> int:
        """What is reserved for the descriptor, such that the disk begins at a multiple of 4096."""
        longest = len(self._rendered(_MAX_FILE))
        return -(-(longest + 2 * BLOCK) // _ALIGNMENT) * _ALIGNMENT - 2 * BLOCK

    @property
    def disk_header(self) -> int:
        return BLOCK + self.descriptor_bytes

    @property
    def disk_start(self) -> int:
        return self.disk_header + BLOCK

    def descriptor(self, file_bytes: int) -> bytes:
        """Exactly `descriptor_bytes` of it."""
        return self._rendered(file_bytes).ljust(self.descriptor_bytes, b"\n")

    def _rendered(self, file_bytes: int) -> bytes:
        options = self.options
        capacity = -(-self.size // BLOCK) * BLOCK  # as the disk's own header has it
        disk = envelope.PackedDisk("vmdisk1", self.disk_name, file_bytes, capacity, options.bus)
        machine = envelope.PackedMachine(
            name=options.name,
            disks=(disk,),
            cpu_count=options.cpus,
            memory_bytes=options.memory_bytes,
            firmware=options.firmware,
            guest_os=options.guest_os,
            nics=(Nic("nic-0", network=options.network),) if options.network else (),
        )
        return envelope.render(machine)


def disk_format() -> ImageFormat:
    """The format of the disks that are written. Raises NotFound (FORMAT_UNKNOWN) when its plugin is not there."""
    return FormatRegistry.installed().get("vmdk")


def disk_options(options: CreateOptions) -> dict[str, str]:
    return {"subformat": SUBFORMAT, "adapter_type": "ide" if options.bus == "ide" else "lsilogic"}


def upper_bound(source: BlockSource, options: CreateOptions) -> int:
    """Bytes of the package that holds `source`."""
    disk = disk_format().measure(source, disk_options(options))
    return Layout(options, source.size).disk_start + disk + 2 * BLOCK + _MANIFEST_MOST + len(END)
