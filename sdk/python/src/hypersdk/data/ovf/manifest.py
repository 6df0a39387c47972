"""The manifest of a package, its `.mf` file: a digest for each file (DSP0243 section 5.1).

    SHA256(vm.ovf)= 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae

SHA1, SHA256 and SHA512 are read, the latter two being all that the standard's second version allows; SHA256 is written.
A manifest tells damage, not forgery: whoever changes a disk can change its digest as well.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.names import is_plain
from hypersdk.errors import MalformedImage

ALGORITHMS: Mapping[str, int] = {"SHA1": 40, "SHA256": 64, "SHA512": 128}
"""Name → hexadecimal digits."""

MAX_BYTES = 1 << 20
_MAX_LINES = 4096
_LINE = re.compile(r"(SHA1|SHA256|SHA512) ?\((.{1,255})\) ?= ?([0-9A-Fa-f]{40,128})", re.IGNORECASE)
_PIECE = 4 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """One line. `value` in lower-case hexadecimal digits."""

    name: str
    algorithm: str
    value: str


def parse(data: bytes, what: str) -> tuple[Digest, ...]:
    """The lines of a manifest, in order. Raises MalformedImage (OVF_MANIFEST_MALFORMED) for anything else in it, and
    for a file that is named twice."""
    lines = data[: MAX_BYTES + 1].decode("utf-8", "surrogateescape").splitlines()
    if len(data) > MAX_BYTES or len(lines) > _MAX_LINES:
        raise _malformed(what, f"is larger than {MAX_BYTES} bytes or {_MAX_LINES} lines, which no manifest is")
    out: dict[str, Digest] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None or len(match[3]) != ALGORITHMS[match[1].upper()] or not is_plain(match[2]):
            raise _malformed(what, f"line {number} is no digest of a file: {text[:80]!r}")
        if match[2] in out:
            raise _malformed(what, f"line {number} names {match[2][:80]!r} a second time")
        out[match[2]] = Digest(match[2], match[1].upper(), match[3].lower())
    return tuple(out.values())


def render(digests: Iterable[Digest]) -> bytes:
    """The file's content."""
    text = "".join(f"{digest.algorithm}({digest.name})= {digest.value}\n" for digest in digests)
    return text.encode("utf-8", "surrogateescape")


def hash_range(
    file: ImageFile, offset: int, length: int, algorithm: str = "SHA256", check: Callable[[], None] | None = None
) -> str:
    """The digest of a part of `file`. `check` is called between pieces and raises to cancel. Raises MalformedImage
    (IMAGE_TRUNCATED) when the file ends before."""
    digest = hashlib.new(algorithm.lower(), usedforsecurity=False)
    buffer = memoryview(bytearray(min(_PIECE, max(length, 1))))
    end = offset + length
    while offset < end:
        if check is not None:
            check()
        piece = buffer[: min(len(buffer), end - offset)]
        file.preadinto(offset, piece, structure="package file")
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


def agrees(expected: Digest, found: str) -> bool:
    return hmac.compare_digest(expected.value, found)


def _malformed(what: str, problem: str) -> MalformedImage:
    return MalformedImage(f"{what}: {problem}", structure="OVF manifest", reason="OVF_MANIFEST_MALFORMED")
