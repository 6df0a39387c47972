"""A wheel, judged before anything of it is unpacked (Binary distribution format, PEP 427 and its successors).

What a hostile or broken archive could do to an installer is refused here: members that lead out of the folder, links,
a RECORD that does not tell the truth, more bytes than we would ever unpack. What the plugin in it is worth is judged
after installation (install), from its files.

Not here: reading the plugin's code, or resolving its dependencies.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from hypersdk.errors import FailedPrecondition, InvalidArgument
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

MAX_MEMBERS = 50_000
MAX_UNPACKED_BYTES = 2 << 30
"""boto3 with all its data is 25 MB, numpy 60; the bound is for archives that are built to fill a disk."""
_CHUNK = 1 << 20
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A sound wheel. `requires`: what its metadata asks for, whatever the environment."""

    path: Path
    distribution: str
    version: str
    requires: tuple[Requirement, ...]


def inspect(path: Path) -> Wheel:
    """Raises InvalidArgument (WHEEL_INVALID) that says what is wrong, FailedPrecondition (NOT_A_PLUGIN), OSError."""
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except (InvalidWheelFilename, InvalidVersion) as exc:
        raise _invalid(path, f"its file name is not that of a wheel: {exc}") from exc
    try:
        with zipfile.ZipFile(path) as archive:
            return _inspect(path, archive, name, version)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, KeyError, zlib.error) as exc:
        raise _invalid(path, f"it is not a sound zip archive: {exc}") from exc


def _inspect(path: Path, archive: zipfile.ZipFile, name: str, version: Version) -> Wheel:
    members = _members(path, archive)
    infos = {m.partition("/")[0] for m in members if m.partition("/")[0].endswith(".dist-info")}
    if len(infos) != 1:
        raise _invalid(path, f"it has {len(infos)} .dist-info folders and must have one")
    info = infos.pop()
    headers = HeaderParser().parsestr(_read(path, archive, members, f"{info}/METADATA").decode())
    found_name, found_version = str(headers.get("Name", "")), str(headers.get("Version", ""))
    if canonicalize_name(found_name) != name:
        raise _invalid(path, f"its file name says {name}, its metadata {found_name[:80]!r}")
    try:
        same = Version(found_version) == version
    except InvalidVersion:
        same = False
    if not same:
        raise _invalid(path, f"its file name says version {version}, its metadata {found_version[:80]!r}")
    _check_record(path, archive, members, info)
    entry_points = f"{info}/entry_points.txt"
    text = _read(path, archive, members, entry_points).decode() if entry_points in members else ""
    if not re.search(r"^\s*\[\s*hypersdk\.[a-z]+\s*\]", text, re.MULTILINE):
        raise FailedPrecondition(
            f"{path.name} is no plugin: it has no entry points in a group hypersdk.<kind>", reason="NOT_A_PLUGIN"
        )
    try:
        requires = tuple(Requirement(str(r)) for r in headers.get_all("Requires-Dist", []))
    except InvalidRequirement as exc:
        raise _invalid(path, f"its metadata has a requirement that cannot be read: {exc}") from exc
    return Wheel(path, found_name, found_version, requires)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for member in archive.infolist():
        name = member.filename
        parts = name.rstrip("/").split("/")
        if not name or name.startswith("/") or "\\" in name or "\0" in name or _DRIVE.match(name):
            raise _invalid(path, f"member {name[:80]!r} has a name that leads out of the folder it is unpacked into")
        if any(part in {"", ".", ".."} for part in parts):
            raise _invalid(path, f"member {name[:80]!r} has a name that leads out of the folder it is unpacked into")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _invalid(path, f"member {name[:80]!r} is a symbolic link")
        if member.flag_bits & 1:
            raise _invalid(path, f"member {name[:80]!r} is encrypted")
        if name in found:
            raise _invalid(path, f"member {name[:80]!r} occurs twice")
        total += member.file_size
        if len(found) >= MAX_MEMBERS or total > MAX_UNPACKED_BYTES:
            raise _invalid(path, f"it has more than {MAX_MEMBERS} members or {MAX_UNPACKED_BYTES} bytes")
        if not name.endswith("/"):
            found[name] = member
    return found


def _check_record(path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], info: str) -> None:
    """Every file is in RECORD with the digest that it has, and RECORD names no other."""
    text = _read(path, archive, members, f"{info}/RECORD").decode()
    unhashed = {f"{info}/{name}" for name in _UNHASHED}
    listed: dict[str, str] = {}
    for row in csv.reader(io.StringIO(text)):
        if row:
            listed[row[0]] = row[1] if len(row) > 1 else ""
    if missing := sorted(listed.keys() - members.keys()):
        raise _invalid(path, f"RECORD names {missing[0][:80]!r}, which is not there")
    for name, member in members.items():
        if name in unhashed:
            continue
        if name not in listed:
            raise _invalid(path, f"member {name[:80]!r} is not in RECORD")
        algorithm, _, wanted = listed[name].partition("=")
        if algorithm not in _HASHES:
            raise _invalid(path, f"RECORD has no SHA-2 digest of {name[:80]!r}")
        digest = hashlib.new(algorithm)
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        if base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != wanted:
            raise _invalid(path, f"member {name[:80]!r} has another digest than RECORD says")


def _read(path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    member = members.get(name)
    if member is None:
        raise _invalid(path, f"it has no {name}")
    if member.file_size > 16 << 20:
        raise _invalid(path, f"its {name} has {member.file_size} bytes")
    return archive.read(member)


def _invalid(path: Path, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path.name} is refused: {what}; build it again, or fetch it from where it was published",
        reason="WHEEL_INVALID",
        metadata={"wheel": path.name},
    )
