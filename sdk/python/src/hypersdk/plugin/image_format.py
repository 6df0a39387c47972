"""ImageFormat: the contract of `hypersdk.format` plugins.

A format is stateless. `probe` judges the first bytes of a file; `open` turns a file into a BlockSource; `create`
turns an
empty file into a BlockSink; `check` looks for damage. It reads and writes only through the ImageFile it is given.
An image of several files opens the others by `ImageFile.open_sibling` and makes them by `ImageFile.create_sibling`, in
one order always; where `ImageFile.new_siblings` is None, only one file can be made.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hypersdk.errors import Unsupported

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource

PROBE_BYTES = 4096
"""How much of the file's head `probe` is shown, bytes; formats with a mark at the end of the file also get `tail`."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found. All counts are of allocation units (clusters, grains, blocks).

    corruptions  wrong bytes or tables: reads may be wrong
    leaks        space that nothing uses: harmless, can be reclaimed
    messages     one line each, at most 100, for a person
    """

    corruptions: int = 0
    leaks: int = 0
    repaired: int = 0
    allocated_units: int = 0
    total_units: int = 0
    messages: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class ImageFormat(abc.ABC):
    """A disk-image format. Stateless and thread-safe."""

    name: ClassVar[str]
    """qemu-img's name of the format ("qcow2", "vmdk", "raw", "vpc"); equals the component's id in the manifest."""

    @abc.abstractmethod
    def probe(self, head: bytes, tail: bytes, size: int) -> int:
        """(CR) How surely a file of `size` bytes whose first up to PROBE_BYTES are `head` and last up to 512 are
        `tail` is of this format: 0 no, 1 only if nobody else claims it (raw), 50 maybe, 100 by its magic number."""

    @abc.abstractmethod
    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """(CR) Open for reading. The source takes over `file` and closes it. `options`: format-specific (`snapshot`).
        An image that depends on a parent or backing file raises FailedPrecondition (IMAGE_HAS_PARENT) naming it,
        unless options say `chain=on`. Raises MalformedImage, Unsupported (encryption, unknown feature bits)."""

    @abc.abstractmethod
    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        """(R) Start an image of `size` virtual bytes in the empty `file`; with `resume` (what `checkpoint` returned)
        go on in a file that a dead process left, dropping whatever it wrote after that checkpoint. Options are
        qemu-img's by name and value syntax; an unknown one raises InvalidArgument that lists the known ones."""

    def check(self, file: ImageFile, *, repair: bool = False) -> CheckReport:
        """(CR) Look for corruption and leaks without reading guest data. `repair` mends leaks in place."""
        raise Unsupported(f"format {self.name} has no consistency check", reason="CHECK_UNSUPPORTED")

    def mend(self, file: ImageFile) -> CheckReport:
        """(CR) `check`, and mend in place whatever needs no guess. What is left is counted. By default leaks only."""
        return self.check(file, repair=True)

    def create_options(self) -> Mapping[str, str]:
        """(CR) The options `create` knows: name → one line of help that tells values and default."""
        return {}

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        """(CR) Upper bound of the file's bytes for what `source` holds."""
        raise Unsupported(f"format {self.name} cannot measure ahead", reason="MEASURE_UNSUPPORTED")
