"""Which footer and header of a file count: a dynamic disk has its footer twice, and one sound copy is enough."""

from __future__ import annotations

from dataclasses import dataclass

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_vpc.footer import Footer, parse_footer
from hypersdk_format_vpc.header import DynamicHeader, parse_header
from hypersdk_format_vpc.layout import FOOTER_BYTES, FOOTER_COOKIE, HEADER_BYTES, TYPE_FIXED


@dataclass(frozen=True, slots=True)
class Structures:
    """`header` is None for a fixed disk. `end`: where blocks must end at the latest, bytes. `faults`: what is wrong
    with the copy that was not used, a sentence each."""

    footer: Footer
    header: DynamicHeader | None
    end: int
    faults: tuple[str, ...] = ()


def read_structures(file: ImageFile) -> Structures:
    """The footer at the end counts; where it is damaged, its copy at the start, if it is that of a dynamic disk.
    Raises MalformedImage, Unsupported."""
    name, size = file.path.name, file.size
    faults: list[str] = []
    try:
        footer, end = _last_footer(file)
    except MalformedImage as exc:
        footer, end = _first_footer(file, exc), size
        faults.append(exc.message)
    if footer.kind == TYPE_FIXED:
        return Structures(footer, None, end, tuple(faults))
    offset = footer.data_offset
    header = parse_header(file.pread(offset, HEADER_BYTES, structure="dynamic disk header"), name, offset)
    if not faults:
        faults.extend(_faults_of_copy(file, footer))
    return Structures(footer, header, end, tuple(faults))


def _last_footer(file: ImageFile) -> tuple[Footer, int]:
    """It and its offset. Virtual PC before 2004 wrote 511 bytes of it (VHD 1.0, "Hard Disk Footer Format")."""
    size = file.size
    if size < FOOTER_BYTES:
        raise MalformedImage(
            f"{file.path.name} has {size} bytes; a VHD ends with a footer of {FOOTER_BYTES}", structure="footer",
            offset=0, reason="IMAGE_TRUNCATED",
        )  # fmt: skip
    offset = size - FOOTER_BYTES
    raw = file.pread(offset, FOOTER_BYTES, structure="footer")
    if raw[1:9] == FOOTER_COOKIE:
        raw, offset = raw[1:] + b"\0", offset + 1
    return parse_footer(raw, file.path.name, offset), offset


def _first_footer(file: ImageFile, fault: MalformedImage) -> Footer:
    """The copy, or `fault` again: a fixed disk has none, and guest data may look like one."""
    if file.size < FOOTER_BYTES:
        raise fault
    raw = file.pread(0, FOOTER_BYTES, structure="footer copy")
    if not raw.startswith(FOOTER_COOKIE):
        raise fault
    footer = parse_footer(raw, file.path.name, 0)
    if footer.kind == TYPE_FIXED:
        raise fault
    return footer


def _faults_of_copy(file: ImageFile, footer: Footer) -> list[str]:
    try:
        copy = parse_footer(file.pread(0, FOOTER_BYTES, structure="footer copy"), file.path.name, 0)
    except MalformedImage as exc:
        return [exc.message]
    if copy != footer:
        return [f"{file.path.name}: the footer and its copy at offset 0 differ; the footer was used"]
    return []
