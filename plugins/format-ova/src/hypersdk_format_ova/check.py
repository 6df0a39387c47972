"""Consistency of a package: its archive, every digest of its manifest, and each disk by its own format.

An archive or descriptor that cannot be read at all raises, as `open` does; what is wrong behind it is counted.
"""

from __future__ import annotations

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.descriptor import OvfDisk
from hypersdk.data.ovf.package import Package, read_package
from hypersdk.data.ovf.verify import verify
from hypersdk.errors import HyperError, Unsupported
from hypersdk.plugin import CheckReport

from hypersdk_format_ova.opening import image_format, open_file

_MAX_MESSAGES = 100


def check_package(file: ImageFile, *, repair: bool) -> CheckReport:
    """Corruptions: digests that differ or are missing, files that are missing, and what the disks' formats find."""
    package = read_package(file)
    verified = verify(file, package)
    messages = list(verified.faults)
    corruptions = len(verified.faults)
    leaks = allocated = total = 0
    if not verified.algorithms and not verified.faults:
        messages.append(f"{package.what} has no manifest: nothing tells whether its files are as they were made")
    if package.certificate:
        messages.append(f"{package.what} is signed; signatures are not verified")
    for disk in package.descriptor.disks:
        report = _check_disk(file, package, disk)
        corruptions += report.corruptions
        leaks += report.leaks
        allocated += report.allocated_units
        total += report.total_units
        messages.extend(report.messages)
    if repair and (corruptions or leaks):
        messages.append("packages are not repaired in place; fetch the package again, or convert its disks")
    return CheckReport(
        corruptions=corruptions,
        leaks=leaks,
        allocated_units=allocated,
        total_units=total,
        messages=tuple(messages[:_MAX_MESSAGES]),
        details={"manifest": ",".join(verified.algorithms) or "none", "files_verified": verified.verified},
    )


def _check_disk(file: ImageFile, package: Package, disk: OvfDisk) -> CheckReport:
    if disk.file is None:
        return CheckReport()
    try:
        with open_file(file, package, disk) as image:
            return image_format(disk, image).check(image)
    except Unsupported as exc:
        return CheckReport(messages=(f"disk {disk.id[:60]!r} was not checked: {exc.message}",))
    except HyperError as exc:
        return CheckReport(corruptions=1, messages=(f"disk {disk.id[:60]!r}: {exc.message}",))
