"""The members of an `.ova`: a tar archive (DSP0243 section 5.2: POSIX ustar) that may be hostile, read where it lies.

Only headers are read; no member is unpacked. Besides ustar the extensions that products write for long names and large
files are known: sizes in base 256 (GNU), long names (GNU type L), `path` and `size` of pax records (type x). A member
is a plain file with a plain name that comes once; an archive with anything else is refused whole.

Python's own tarfile is not used: it takes sparse files, repairs what is broken and reads records of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.names import is_plain, printable
from hypersdk.errors import MalformedImage

BLOCK = 512
MAX_MEMBERS = 1000
_MAX_RECORD = 64 << 10
"""Bytes of a long name or of pax records. A file name has 255."""
_MAX_HEADERS = 4 * MAX_MEMBERS
_ZEROS = bytes(BLOCK)
_REGULAR = {b"0", b"\0"}
_PAX_LOCAL, _PAX_GLOBAL, _LONG_NAME = b"x", b"g", b"L"


@dataclass(frozen=True, slots=True)
class Member:
    """`size` bytes at `offset` of the archive; its header is at `header_offset`."""

    name: str
    offset: int
    size: int
    header_offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """One header block as it stands. `kind`: the typeflag."""

    name: str
    size: int
    kind: bytes


def parse_header(block: bytes) -> Header | None:
    """The header in `block`, 512 bytes; None when it is no tar header (its checksum is wrong)."""
    if len(block) != BLOCK or block[257:262] != b"ustar":
        return None
    stored = _octal(block[148:156])
    if stored != sum(block) - sum(block[148:156]) + 8 * 0x20:
        return None
    size = _number(block[124:136])
    if size is None:
        return None
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    return Header(name, size, block[156:157])


def read_members(file: ImageFile) -> dict[str, Member]:
    """All members by name, in their order. Raises MalformedImage (OVA_MALFORMED, OVA_MEMBER_REFUSED,
    IMAGE_TRUNCATED)."""
    return _Reader(file).run()


class _Reader:
    def __init__(self, file: ImageFile) -> None:
        self._file = file
        self._what = printable(file.path.name)
        self._at = 0
        self._name: str | None = None
        self._size: int | None = None
        self._members: dict[str, Member] = {}

    def run(self) -> dict[str, Member]:
        headers = 0
        while (block := self._file.pread(self._at, BLOCK, structure="tar header")) != _ZEROS:
            header = parse_header(block)
            if header is None:
                self._malformed("is no tar header")
            headers += 1
            if headers > _MAX_HEADERS:
                self._malformed(f"is one of more than {_MAX_HEADERS} headers")
            if header.kind in {_PAX_LOCAL, _PAX_GLOBAL, _LONG_NAME}:
                self._extend(header)
            else:
                self._add(header)
        return self._end()

    def _end(self) -> dict[str, Member]:
        if self._name is not None or self._size is not None:
            self._malformed("ends the archive where a member should follow its extended header")
        return self._members

    def _extend(self, header: Header) -> None:
        """A record that changes how the next member is named or sized."""
        if header.size > _MAX_RECORD:
            self._malformed(f"is an extended header of {header.size} bytes; {_MAX_RECORD} is the most that is read")
        data = self._file.pread(self._at + BLOCK, header.size, structure="tar extended header")
        if header.kind == _LONG_NAME:
            self._name = _text(data)
        else:
            for key, value in self._records(data):
                self._apply(header.kind, key, value)
        self._at += BLOCK + _padded(header.size)

    def _apply(self, kind: bytes, key: str, value: str) -> None:
        if key.startswith("GNU.sparse.") or key == "linkpath":
            self._refused(f"has the record {key[:40]!r}")
        if key not in {"path", "size"}:
            return
        if kind == _PAX_GLOBAL:
            self._refused(f"sets {key} for all members")
        if key == "path":
            self._name = value
        elif value.isascii() and value.isdigit() and len(value) <= 19:
            self._size = int(value)
        else:
            self._malformed(f"has the size {value[:40]!r}")

    def _records(self, data: bytes) -> list[tuple[str, str]]:
        """Of pax: "<length of the whole> <key>=<value>\\n" one after the other (POSIX.1-2001, pax, Extended Header)."""
        out: list[tuple[str, str]] = []
        at = 0
        while at < len(data):
            digits, space, _ = data[at : at + 8].partition(b" ")
            length = int(digits) if space and digits.isdigit() else 0
            record = data[at + len(digits) + 1 : at + length]
            key, equals, value = record[:-1].partition(b"=")
            if length <= len(digits) + 1 or at + length > len(data) or not equals or not record.endswith(b"\n"):
                self._malformed("has impossible pax records")
            out.append((_text(key), value.decode("utf-8", "surrogateescape")))
            at += length
        return out

    def _add(self, header: Header) -> None:
        name = header.name if self._name is None else self._name
        size = header.size if self._size is None else self._size
        self._name = self._size = None
        if header.kind not in _REGULAR:
            self._refused(f"{name[:80]!r} is of type {header.kind!r}, not a plain file")
        if not is_plain(name):
            self._refused(f"{name[:80]!r} has no plain name")
        if name in self._members:
            self._refused(f"{name[:80]!r} comes twice")
        if len(self._members) >= MAX_MEMBERS:
            self._refused(f"{name[:80]!r} is one of more than {MAX_MEMBERS}")
        start = self._at + BLOCK
        if size > self._file.size - start:
            raise MalformedImage(
                f"{self._what}: member {name[:80]!r} at offset {start} has {size} bytes, but the archive has only "
                f"{self._file.size}; it is truncated",
                structure="tar member", offset=self._at, reason="IMAGE_TRUNCATED",
            )  # fmt: skip
        self._members[name] = Member(name, start, size, self._at)
        self._at = start + _padded(size)

    def _refused(self, problem: str) -> NoReturn:
        raise MalformedImage(
            f"{self._what}: the member at offset {self._at} {problem}; the archive is refused",
            structure="tar member", offset=self._at, reason="OVA_MEMBER_REFUSED",
        )  # fmt: skip

    def _malformed(self, problem: str) -> NoReturn:
        raise MalformedImage(
            f"{self._what}: what lies at offset {self._at} {problem}",
            structure="tar header", offset=self._at, reason="OVA_MALFORMED",
        )  # fmt: skip


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    return int(digits, 8) if all(0x30 <= c < 0x38 for c in digits) else None


def _number(field: bytes) -> int | None:
    """Octal, or base 256 when the first bit is set (GNU tar); negative ones are none."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return _octal(field)
