"""ImageTransfer: one disk into one image file, resumable and verified: what the tasks that write images
have in common.

Copies a source through an image format, keeps what is needed to go on after a kill, then reads the finished
file back from the medium and compares. Whoever runs it owns the file, its name and its publication.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hypersdk.data.digest import CHUNK_BYTES, ContentDigest
from hypersdk.data.pipeline import CopyHooks, CopyOptions, CopyProgress, copy
from hypersdk.data.readback import ReadBack, SiblingFacts, read_back
from hypersdk.errors import DataLoss, HyperError, Unsupported

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.source import BlockSource
    from hypersdk.plugin.image_format import ImageFormat
    from hypersdk.plugin.task import TaskContext

Stage = Literal["copy", "verify"]
Report = Callable[[Stage, CopyProgress], None]
Save = Callable[[dict[str, Any]], None]

CHECKPOINT_BYTES = 16 << 20
"""With CHECKPOINT_SECONDS: a fast copy is saved every 5 s, one at 1 MB/s every 16 s, an idle one never."""
"""With the seconds below: a fast transfer syncs every five seconds, a slow one after at least so much
work."""
CHECKPOINT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """A finished image. All sizes in bytes; `content_bytes` is the source's size, which the digests
    `sha256` (of the raw content) and `tree_sha256` (hypersdk.data.digest.ContentDigest) cover.
    `virtual_size` may be larger where a format rounds sizes up; the rest is zeros. `siblings`: the further files of
    an image of several; everything else is of the main one."""

    file_bytes: int
    allocated_bytes: int
    file_sha256: str
    virtual_size: int
    content_bytes: int
    sha256: str
    tree_sha256: str
    siblings: tuple[SiblingFacts, ...] = ()

    def content(self) -> dict[str, Any]:
        """As manifests tell it."""
        return {
            "bytes": self.content_bytes,
            "sha256": self.sha256,
            "tree_sha256": self.tree_sha256,
            "chunk_bytes": CHUNK_BYTES,
        }

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageFacts:
        siblings = tuple(SiblingFacts(**sibling) for sibling in data.get("siblings", ()))
        return cls(**{**data, "siblings": siblings})


class ImageTransfer:
    """Its life: made, `run` once on one thread, thrown away.

    file         open for writing, the caller's; its content counts only with a `saved` state
    digest_path  where the digest's state is kept between attempts: 33 bytes for each 4 MiB of data, too much
                 for a checkpoint of the largest disks
    final_name   what the file will be called; formats that note their file's name in it (VMDK) note this one
    saved        what `save` was last given by an earlier attempt for this source and file; None: from the
                 start
    """

    def __init__(
        self,
        source: BlockSource,
        file: ImageFile,
        image_format: ImageFormat,
        *,
        context: TaskContext,
        digest_path: Path,
        save: Save,
        report: Report,
        final_name: str = "",
        options: Mapping[str, str] | None = None,
        saved: Mapping[str, Any] | None = None,
        threads: int = 0,
    ) -> None:
        self.seconds: dict[str, float] = {"copy": 0.0, "verify": 0.0}
        """How long each stage took in this attempt."""
        self.bytes_read = 0
        self.bytes_written = 0
        self._source = source
        self._path = file.path
        self._file = file
        if final_name:
            file.path = file.path.with_name(final_name)
        self._format = image_format
        self._context = context
        self._digest_path = digest_path
        self._save = save
        self._report = report
        self._options = dict(options or {})
        self._saved = dict(saved or {})
        self._threads = threads

    def run(self) -> ImageFacts:
        """Copy what is missing and verify everything. Raises DataLoss (VERIFY_MISMATCH), and what source,
        format and context raise; the file and the saved state then stay as they are, for another attempt or
        for deletion."""
        tree = self._saved.get("tree")
        if not isinstance(tree, str) or not self._adopt(self._saved.get("siblings") or ()):
            start = time.monotonic()
            tree = self._copy()
            self.seconds["copy"] = time.monotonic() - start
            self._save({"tree": tree, "siblings": list(self._siblings)})
        start = time.monotonic()
        facts = self._verify(tree)
        self.seconds["verify"] = time.monotonic() - start
        self._digest_path.unlink(missing_ok=True)
        return facts

    @property
    def _siblings(self) -> tuple[str, ...]:
        new = self._file.new_siblings
        return new.names if new is not None else ()

    def _adopt(self, names: Sequence[str]) -> bool:
        """Are the siblings of a finished copy all there still? An attempt that died while it published may have moved
        some."""
        new = self._file.new_siblings
        return not names or (new is not None and new.adopt(names))

    def _copy(self) -> str:
        sink, offset = self._sink()
        digest = ContentDigest(self._source.size, self._load_digest() if offset else None)
        hooks = CopyHooks(
            progress=lambda progress: self._report("copy", progress),
            checkpoint=lambda at, state: self._checkpoint(at, state, digest),
            check=self._context.check,
            throttle=self._context.throttle,
            digest=digest,
        )
        options = CopyOptions(
            threads=self._threads,
            resume_offset=offset,
            checkpoint_bytes=CHECKPOINT_BYTES,
            checkpoint_seconds=CHECKPOINT_SECONDS,
        )
        try:
            result = copy(self._source, sink, options=options, hooks=hooks)
        except BaseException:
            sink.abort()
            raise
        self.bytes_read, self.bytes_written = result.bytes_read, result.bytes_written
        return digest.hexdigest()

    def _sink(self) -> tuple[Any, int]:
        """The sink, and how far it is."""
        size = self._source.size
        state, offset = self._saved.get("sink"), self._saved.get("offset")
        if isinstance(state, dict) and isinstance(offset, int) and offset > 0:
            try:
                return self._format.create(self._file, size, self._options, state), offset
            except HyperError as exc:
                if exc.reason != "RESUME_STATE_INVALID":
                    raise
                self._context.log("transfer_restarted", "warning", cause=exc.message)
        self._digest_path.unlink(missing_ok=True)
        self._file.truncate(0)
        if self._file.new_siblings is not None:
            self._file.new_siblings.discard()
        return self._format.create(self._file, size, self._options), 0

    def _checkpoint(self, offset: int, state: dict[str, Any], digest: ContentDigest) -> None:
        """The digest first: one that knows more than the checkpoint is harmless, one that knows less costs
        reading."""
        fresh = self._digest_path.with_name(self._digest_path.name + ".new")
        with fresh.open("wb") as file:
            file.write(digest.state())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._digest_path)
        self._save({"offset": offset, "sink": state})

    def _load_digest(self) -> bytes | None:
        try:
            return self._digest_path.read_bytes()
        except FileNotFoundError:
            return None

    def _verify(self, tree: str) -> ImageFacts:
        aliases = self._file.new_siblings.aliases if self._file.new_siblings is not None else {}
        for path in (self._path, *(self._path.with_name(hidden) for hidden in aliases.values())):
            _drop_from_memory(path)
        size = self._source.size
        found = read_back(
            self._path, self._format, size,
            threads=self._threads,
            aliases=aliases,
            check=self._context.check,
            progress=lambda at, read: self._report("verify", CopyProgress(at, size, read, 0)),
        )  # fmt: skip
        if found.tree_sha256 != tree:
            raise DataLoss(
                f"{self._file.path.name} reads back as {found.tree_sha256[:16]}…, but {tree[:16]}… was copied: the "
                f"medium, memory or format {self._format.name} is at fault; nothing was published, so retry",
                reason="VERIFY_MISMATCH",
                metadata={"expected": tree, "found": found.tree_sha256},
            )
        return self._facts(found)

    def _facts(self, found: ReadBack) -> ImageFacts:
        return ImageFacts(
            file_bytes=self._file.size,
            allocated_bytes=self._file.allocated_bytes,
            file_sha256=found.file_sha256,
            virtual_size=found.virtual_size,
            content_bytes=self._source.size,
            sha256=found.sha256,
            tree_sha256=found.tree_sha256,
            siblings=found.siblings,
        )


def _drop_from_memory(path: Path) -> None:
    """So that what is read back comes from the medium. Advice only: some file systems have no page cache to drop."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def compressing(image_format: ImageFormat, options: Mapping[str, str]) -> dict[str, str]:
    """`options` with the format's compression turned on, as qemu-img's -c does. Raises Unsupported
    (COMPRESS_UNSUPPORTED)."""
    known = image_format.create_options()
    if "compress" in known:
        return {"compress": "on", **options}
    raise Unsupported(
        f"format {image_format.name} cannot compress; leave `compress` out or choose qcow2 or vmdk",
        reason="COMPRESS_UNSUPPORTED",
    )
