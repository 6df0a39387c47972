"""The parent locator (2.6.2.6): how a differencing disk names its parent. Only VHDX parents are known."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from hypersdk.errors import MalformedImage, PermissionDenied, Unsupported

from hypersdk_format_vhdx.layout import VHDX_LOCATOR_TYPE

_HEAD = struct.Struct("<16sHH")
_ENTRY = struct.Struct("<IIHH")
_STRUCTURE = "parent locator"


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """entries    every key and value as stored
    linkages   the parent's data-write GUIDs that are accepted: one, or two around a change of the parent
    """

    entries: Mapping[str, str]
    linkages: tuple[UUID, ...]

    @property
    def display_name(self) -> str:
        """The best path for a person: nothing is opened by it."""
        for key in ("relative_path", "absolute_win32_path", "volume_path"):
            if self.entries.get(key):
                return self.entries[key]
        return "an unnamed parent"

    def sibling(self, name: str) -> str:
        """The file name in the image's own directory. `name`: of the image, for messages. Raises PermissionDenied
        (REFERENCE_REFUSED) without a relative path; whether it is a plain name, ImageFile.open_sibling judges."""
        path = self.entries.get("relative_path", "")
        if not path:
            raise PermissionDenied(
                f"{name} names its parent only by an absolute path ({self.display_name!r}), and such references are "
                "never followed; put the parent beside it and set its relative path with Set-VHD",
                reason="REFERENCE_REFUSED", metadata={"structure": _STRUCTURE},
            )  # fmt: skip
        return path.removeprefix(".\\").removeprefix("./")


def parse_locator(name: str, raw: bytes, where: int) -> ParentLocator:
    """`name`: of the file; `raw`: the metadata item at offset `where`. Raises MalformedImage, Unsupported."""

    def fault(what: str) -> MalformedImage:
        return MalformedImage(f"{name}: the parent locator {what}", structure=_STRUCTURE, offset=where)

    if len(raw) < _HEAD.size:
        raise fault(f"has {len(raw)} bytes")
    kind, _, count = _HEAD.unpack_from(raw)
    if UUID(bytes_le=kind) != VHDX_LOCATOR_TYPE:
        raise Unsupported(
            f"{name} names its parent by a locator of type {UUID(bytes_le=kind)}, which this reader does not know",
            reason="FEATURE_UNSUPPORTED", metadata={"locator": str(UUID(bytes_le=kind))},
        )  # fmt: skip
    if _HEAD.size + count * _ENTRY.size > len(raw):
        raise fault(f"claims {count} entries in {len(raw)} bytes")
    entries: dict[str, str] = {}
    for key_at, value_at, key_bytes, value_bytes in _ENTRY.iter_unpack(
        raw[_HEAD.size : _HEAD.size + count * _ENTRY.size]
    ):
        if key_at + key_bytes > len(raw) or value_at + value_bytes > len(raw) or not key_bytes:
            raise fault("has an entry that does not lie inside it")
        try:
            key = raw[key_at : key_at + key_bytes].decode("utf-16-le")
            value = raw[value_at : value_at + value_bytes].decode("utf-16-le")
        except UnicodeDecodeError as exc:
            raise fault("has an entry that is not UTF-16") from exc
        if key in entries:
            raise fault(f"has the key {key!r} twice")
        entries[key] = value
    return ParentLocator(entries, _linkages(entries, fault("has no parent_linkage that is a GUID")))


def _linkages(entries: Mapping[str, str], fault: MalformedImage) -> tuple[UUID, ...]:
    found = []
    for key in ("parent_linkage", "parent_linkage2"):
        if key in entries or key == "parent_linkage":
            try:
                found.append(UUID(entries.get(key, "")))
            except ValueError:
                raise fault from None
    return tuple(found)
