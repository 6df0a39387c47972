"""The text descriptor, read: header, extent lines, disk database (VDF 5.0, "The Descriptor File").

Only text: no file is opened here, and no name is judged. What is ambiguous is an error, because a reader that guesses
reads another disk than the one that was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vmdk.layout import CID_NONE, MAX_CAPACITY, MAX_DESCRIPTOR, MAX_EXTENTS, SECTOR

STRUCTURE = "descriptor"

_EXTENT = re.compile(
    r"(RW|RDONLY|NOACCESS)[ \t]+([0-9]{1,18})[ \t]+([A-Z]+)"
    r'(?:[ \t]+"([^"\r\n]*)"(?:[ \t]+([0-9]{1,18})(?:[ \t].*)?)?)?'
)
_LOOKS_LIKE_EXTENT = re.compile(r"(RW|RDONLY|NOACCESS)([ \t]|$)")
_ASSIGNMENT = re.compile(r"([A-Za-z][A-Za-z0-9_.:]*)[ \t]*=[ \t]*(.*)")
_CID = re.compile(r"(0[xX])?[0-9a-fA-F]{1,8}")
_CODECS = {
    "utf-8", "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254", "windows-1255",
    "windows-1256", "windows-1257", "windows-1258", "iso-8859-1", "gbk", "big5", "shift_jis", "euc-kr",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One line of the extent section. `sectors` long; `start` in sectors, for flat ones; `name` "" where none."""

    access: str
    sectors: int
    kind: str
    name: str = ""
    start: int = 0


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`fields` are the header's by lower-case key, `database` the `ddb.` ones with that prefix cut off."""

    fields: Mapping[str, str]
    database: Mapping[str, str]
    extents: tuple[ExtentLine, ...]

    @property
    def create_type(self) -> str:
        return self.fields.get("createtype", "")

    @property
    def cid(self) -> int:
        return int(self.fields.get("cid", "0"), 16)

    @property
    def parent_cid(self) -> int:
        return int(self.fields.get("parentcid", f"{CID_NONE:x}"), 16)

    @property
    def parent_name(self) -> str:
        return self.fields.get("parentfilenamehint", "")

    @property
    def has_parent(self) -> bool:
        return bool(self.parent_name) or self.parent_cid != CID_NONE


def looks_like_descriptor(head: bytes) -> bool:
    """Is this the beginning of a descriptor file? By its first comment, or by `version=` as the first line."""
    for line in head.split(b"\n"):
        line = line.strip()
        if line.lower().startswith(b"# disk descriptorfile"):
            return True
        if line and not line.startswith(b"#"):
            return re.fullmatch(rb"version\s*=\s*\d+", line) is not None
    return False


def parse_descriptor(raw: bytes, name: str, offset: int = 0) -> Descriptor:
    """The text in `raw`, up to the first NUL. `name` and `offset` say in errors where it lies.
    Raises MalformedImage; Unsupported for versions and encryption that are not known."""

    def fault(what: str, line: int) -> MalformedImage:
        return MalformedImage(f"{name}: {STRUCTURE} line {line} {what}", structure=STRUCTURE, offset=offset)

    if len(raw) > MAX_DESCRIPTOR:
        raise fault(f"ends a text of more than {MAX_DESCRIPTOR} bytes", 1)
    text = _decode(raw.split(b"\0", 1)[0])
    fields: dict[str, str] = {}
    database: dict[str, str] = {}
    extents: list[ExtentLine] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if _LOOKS_LIKE_EXTENT.match(line):
            extents.append(_extent(line, number, fault))
            if len(extents) > MAX_EXTENTS:
                raise fault(f"is extent {len(extents)}; {MAX_EXTENTS} is the most that is read", number)
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            continue
        key, value = match[1].lower(), match[2].strip().strip('"')
        into = fields
        if key.startswith("ddb."):
            into, key = database, match[1][4:]
        if into.setdefault(key, value) != value:
            raise fault(f"gives {match[1]} a second value", number)
    for key in ("cid", "parentcid"):
        if key in fields and not _CID.fullmatch(fields[key]):
            raise fault(f"or another gives {key.upper()} the impossible value {fields[key][:40]!r}", 1)
    if sum(e.sectors for e in extents) * SECTOR > MAX_CAPACITY:
        raise fault("or another makes the disk impossibly large", 1)
    _refuse_unknown(fields, name)
    return Descriptor(fields, database, tuple(extents))


def _extent(line: str, number: int, fault: Callable[[str, int], MalformedImage]) -> ExtentLine:
    match = _EXTENT.fullmatch(line)
    if match is None or int(match[2]) == 0:
        raise fault("is an extent line that cannot be read", number)
    if match[3] != "ZERO" and not match[4]:
        raise fault("is an extent line without a file name", number)
    return ExtentLine(match[1], int(match[2]), match[3], match[4] or "", int(match[5] or 0))


def _refuse_unknown(fields: Mapping[str, str], name: str) -> None:
    version = fields.get("version", "1")
    if version not in {"1", "2", "3", "4"}:
        raise Unsupported(
            f"{name}: VMDK descriptors of version {version[:20]!r} are not known; 1 to 4 are",
            reason="IMAGE_VERSION_UNSUPPORTED",
        )
    if any(key.startswith("encryption") for key in fields):
        raise Unsupported(
            f"{name}: the disk is encrypted by VMware; decrypt the machine there and export it again",
            reason="IMAGE_ENCRYPTED",
        )


def _decode(raw: bytes) -> str:
    """By the `encoding` line where it names a codec of VMware's, else UTF-8; bytes that fit neither survive as
    surrogates, so that names still find their files."""
    found = re.search(rb'^\s*encoding\s*=\s*"?([A-Za-z0-9_-]{1,20})"?', raw, re.IGNORECASE | re.MULTILINE)
    codec = found[1].decode("ascii").lower() if found else "utf-8"
    return raw.decode(codec if codec in _CODECS else "utf-8", "surrogateescape")
