"""A small tree from an XML file that may be hostile.

expat with every door shut: a document type declaration is refused where it begins, so there are no entities
to expand and no files to fetch; size, depth and number of elements are bounded before the tree grows.
Namespaces are dropped: their addresses differ between OVF versions and products, local names do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from hypersdk.errors import MalformedImage

MAX_BYTES = 4 << 20
_MAX_DEPTH = 64
_MAX_ELEMENTS = 50_000
_SEPARATOR = "}"


@dataclass(slots=True)
class Element:
    """`tag` and the keys of `attributes` are local names; `text` is what stands directly in the element."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> Iterator[Element]:
        return (child for child in self.children if child.tag == tag)

    def first(self, tag: str) -> Element | None:
        return next(self.all(tag), None)

    def value(self, tag: str) -> str:
        """The text of the first child `tag`, stripped; "" when there is none."""
        child = self.first(tag)
        return child.text.strip() if child is not None else ""


def parse(data: bytes, what: str) -> Element:
    """The root element. `what` names the file in errors. Raises MalformedImage (OVF_MALFORMED, OVF_TOO_LARGE,
    OVF_DTD_REFUSED) with the byte offset."""
    if len(data) > MAX_BYTES:
        raise MalformedImage(
            f"{what} is larger than {MAX_BYTES} bytes, which no OVF descriptor is", reason="OVF_TOO_LARGE"
        )
    return _Builder(what).run(data)


class _Builder:
    def __init__(self, what: str) -> None:
        self._what = what
        self._root: Element | None = None
        self._stack: list[Element] = []
        self._count = 0
        self._parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._doctype

    def run(self, data: bytes) -> Element:
        try:
            self._parser.Parse(data, True)
        except (expat.ExpatError, ValueError, LookupError) as exc:  # the last two: an encoding nobody knows
            raise self._error(str(exc), reason="OVF_MALFORMED") from exc
        if self._root is None:
            self._fail("has no element", reason="OVF_MALFORMED")
        return self._root

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._stack) >= _MAX_DEPTH:
            self._fail(f"has more than {_MAX_ELEMENTS} elements or {_MAX_DEPTH} levels", reason="OVF_TOO_LARGE")
        element = Element(_local(tag), {_local(name): value for name, value in attributes.items()})
        if self._stack:
            self._stack[-1].children.append(element)
        else:
            self._root = element
        self._stack.append(element)

    def _end(self, _tag: str) -> None:
        self._stack.pop()

    def _text(self, text: str) -> None:
        self._stack[-1].text += text

    def _doctype(self, *_: object) -> None:
        self._fail("has a document type declaration; they are refused, because entities are", reason="OVF_DTD_REFUSED")

    def _fail(self, problem: str, *, reason: str) -> NoReturn:
        raise self._error(problem, reason=reason)

    def _error(self, problem: str, *, reason: str) -> MalformedImage:
        return MalformedImage(
            f"{self._what}: {problem}", structure="OVF descriptor", offset=self._parser.CurrentByteIndex, reason=reason
        )


def _local(name: str) -> str:
    return name.rpartition(_SEPARATOR)[2].rpartition(":")[2]
