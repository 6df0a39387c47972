"""The block tables in a UDIF image's property list: `resource-fork` / `blkx` / each `Data`, and nothing else of it.

The XML is hostile input: entity declarations are refused, nothing external is ever loaded, and elements and
attributes are counted before the parser sees them.
"""

from __future__ import annotations

import binascii
from xml.parsers import expat

from hypersdk.errors import MalformedImage

_MAX_MARKS = 200_000
"""Of "<" and of "=". hdiutil writes some 20 elements a partition, and one attribute; base64 has "=" only at its end."""
_MAX_DEPTH = 32
_WANTED = ["plist", "dict:resource-fork", "dict:blkx", "array:", "dict:Data"]


class _Refused(Exception):
    """What is wrong, for the message."""


class _Tables:
    """expat's handlers. `found` holds the base64 text of each table."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._frames: list[list[str]] = []  # of each open container: its tag and its latest key
        self._text: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        del attributes
        if len(self._frames) >= _MAX_DEPTH:
            raise _Refused(f"is deeper than {_MAX_DEPTH} elements")
        if tag == "key" or (tag == "data" and self._place() == _WANTED):
            self._text = []
        self._frames.append([tag, ""])

    def _place(self) -> list[str]:
        return [tag if tag == "plist" else f"{tag}:{key}" for tag, key in self._frames]

    def text(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def end(self, tag: str) -> None:
        self._frames.pop()
        if self._text is None:
            return
        text, self._text = "".join(self._text), None
        if tag == "key" and self._frames:
            self._frames[-1][1] = text
        elif tag == "data":
            self.found.append(text)


def block_tables(xml: bytes, name: str, offset: int) -> list[bytes]:
    """The tables in the property list `xml`, which lies at byte `offset` of file `name`. Raises MalformedImage."""
    try:
        if max(xml.count(b"<"), xml.count(b"=")) > _MAX_MARKS:
            raise _Refused(f"has more than {_MAX_MARKS} elements or attributes")
        tables = _Tables()
        parser = expat.ParserCreate("UTF-8")  # what they are; a declared encoding would choose any codec of Python's
        parser.buffer_text = True
        parser.StartElementHandler = tables.start
        parser.EndElementHandler = tables.end
        parser.CharacterDataHandler = tables.text
        parser.EntityDeclHandler = _refuse_entities
        parser.Parse(xml, True)
        return [binascii.a2b_base64("".join(text.split()), strict_mode=True) for text in tables.found]
    except (_Refused, expat.ExpatError, ValueError) as exc:
        raise MalformedImage(
            f"{name}: property list at offset {offset} {exc if isinstance(exc, _Refused) else f'is not valid ({exc})'}",
            structure="property list", offset=offset,
        ) from exc  # fmt: skip


def _refuse_entities(*_: object) -> None:
    raise _Refused("declares entities, which property lists never do")
