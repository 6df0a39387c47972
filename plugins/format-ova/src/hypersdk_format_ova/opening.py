"""From a package to a source: which disk, which file of the package, which format.

The format is the one that the descriptor names (its URL, or the file's extension); content decides only where neither
is known. Files are found by the package's own rule (`hypersdk.data.ovf.package`), and an image in an archive may
name no files at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from hypersdk.data.blank import BlankSource
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry
from hypersdk.data.ovf.descriptor import OvfDisk
from hypersdk.data.ovf.package import Package, check_readable, open_reference, read_package
from hypersdk.data.ovf.spool import unpack, unpacked_limit
from hypersdk.data.source import BlockSource
from hypersdk.errors import NotFound, Unsupported
from hypersdk.plugin import ImageFormat

from hypersdk_format_ova.options import parse_open
from hypersdk_format_ova.source import OvaSource

_NAME = "ova"


def open_disk(file: ImageFile, options: Mapping[str, str] | None) -> OvaSource:
    """The source takes over `file`, also when this raises."""
    try:
        chosen = parse_open(options)
        package = read_package(file)
        disk = choose(package, chosen.disk)
        return OvaSource(file, package, disk, open_image(file, package, disk, chosen.inner))
    except BaseException:
        file.close()
        raise


def choose(package: Package, wanted: str) -> OvfDisk:
    """Raises NotFound (DISK_NOT_FOUND) that lists the disks."""
    disks = package.descriptor.disks
    if not wanted:
        found = next((disk for disk in disks if disk.file is not None), None) or next(iter(disks), None)
    else:
        found = next((disk for disk in disks if disk.id == wanted), None)
        if found is None and wanted.isascii() and wanted.isdigit() and int(wanted[:6]) < len(disks):
            found = disks[int(wanted[:6])]
    if found is None:
        there = ", ".join(repr(disk.id[:60]) for disk in disks[:20]) or "none"
        raise NotFound(
            f"{package.what} has no disk {wanted[:60]!r}; it has {there}" if wanted else f"{package.what} has no disk",
            reason="DISK_NOT_FOUND", metadata={"disk": wanted[:60]},
        )  # fmt: skip
    return found


def open_image(file: ImageFile, package: Package, disk: OvfDisk, options: Mapping[str, str]) -> BlockSource:
    """The disk by its own format; zeros when it has no file."""
    if disk.file is None:
        return BlankSource(max(disk.capacity_bytes, 0))
    image = open_file(file, package, disk)
    try:
        return image_format(disk, image).open(image, options)
    except BaseException:
        image.close()
        raise


def open_file(file: ImageFile, package: Package, disk: OvfDisk) -> ImageFile:
    """The disk's image, unpacked when it is compressed as a whole."""
    reference = check_readable(package, disk)
    image = open_reference(file, package, reference)
    if not reference.compression:
        return image
    try:
        return unpack(image, unpacked_limit(disk, reference))
    finally:
        image.close()


def image_format(disk: OvfDisk, image: ImageFile) -> ImageFormat:
    """Raises InvalidArgument (FORMAT_UNRECOGNISED), NotFound (FORMAT_UNKNOWN), Unsupported for a package in a
    package."""
    registry = FormatRegistry.installed()
    if "vmdk" in disk.format_url.lower():
        return registry.get("vmdk")
    assert disk.file is not None
    name = registry.for_extension(disk.file.href.removesuffix(".gz"))
    found = registry.get(name) if name and name != _NAME else registry.probe(image)[0]
    if found.name == _NAME:
        raise Unsupported(
            f"{image.path.name} is itself a package; take it out and read it alone",
            reason="IMAGE_LAYOUT_UNSUPPORTED",
        )
    return found
