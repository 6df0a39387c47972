"""What a differencing disk calls its parent (VHD 1.0, "Parent Locator Entry").

Only plain names are ever opened, so a name is all that is taken from a locator: of a relative one (W2ru) as it stands
without a leading `.\\`, of an absolute one (W2ku, MacX) and of the header's name field the last part. That the file
is the right one is proved by its UUID, not by its name.
"""

from __future__ import annotations

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_vpc.header import DynamicHeader, Locator

_MAX_TEXT = 64 << 10
_RELATIVE = b"W2ru"
_ABSOLUTE = (b"W2ku", b"MacX")
_KNOWN = (_RELATIVE, *_ABSOLUTE)


def parent_name(file: ImageFile, header: DynamicHeader) -> str:
    """The name to open beside the image, or "" when there is none. A relative name that leaves the directory is
    returned as it is, for `ImageFile.open_sibling` to refuse. Raises MalformedImage."""
    texts = locator_texts(file, header)
    relative = texts.get(_RELATIVE, "")
    if relative:
        return relative[2:] if relative.startswith((".\\", "./")) else relative
    for name in (header.parent_name, *(texts.get(code, "") for code in _ABSOLUTE)):
        last = name.replace("\\", "/").rsplit("/", 1)[-1]
        if last:
            return last
    return ""


def locator_texts(file: ImageFile, header: DynamicHeader) -> dict[bytes, str]:
    """The texts of the locators whose platform code is known, by that code. Raises MalformedImage."""
    return {locator.code: _text(file, locator) for locator in header.locators if locator.code in _KNOWN}


def _text(file: ImageFile, locator: Locator) -> str:
    if locator.length > _MAX_TEXT:
        raise MalformedImage(
            f"{file.path.name}: a parent locator of {locator.length} bytes; {_MAX_TEXT} is the most that is read",
            structure="parent locator", offset=locator.offset,
        )  # fmt: skip
    raw = file.pread(locator.offset, locator.length, structure="parent locator")
    encoding = "utf-8" if locator.code == b"MacX" else "utf-16-le"
    return raw.decode(encoding, "replace").split("\0")[0]
