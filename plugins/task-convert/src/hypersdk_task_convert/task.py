"""ConvertTask: open, copy through the target's format, read back, publish.

Not `hypersdk.data.images.convert`: a job has checkpoints, records of what it holds, and a verified result
with digests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypersdk.data.pipeline import CopyProgress
from hypersdk.data.transfer import ImageFacts, ImageTransfer, Stage, compressing
from hypersdk.errors import FailedPrecondition, HyperError
from hypersdk.plugin import Progress, Task, TaskContext

from hypersdk_task_convert.spec import ConvertSpec
from hypersdk_task_convert.target import Target, cleanup_record

_RESOURCE = "target"
_COMPONENT = "task/convert"


class ConvertTask(Task):
    """Stateless. An attempt that finds its target published by an earlier one, which died before saying so,
    says so."""

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        spec = ConvertSpec.parse(context.spec)
        target = Target(spec.target_path, context.job, overwrite=spec.overwrite)
        saved = dict(context.checkpoint or {})
        if _was_published(saved, spec.target_path):
            target.discard()
            return self._done(context, spec, ImageFacts.from_json(saved["facts"]), {})
        image_format = context.image_format(spec.image_format)
        options = compressing(image_format, spec.options) if spec.compress else dict(spec.options)
        target.check(spec.source_path)
        context.scratch_dir.mkdir(parents=True, exist_ok=True)
        with context.open_image(spec.source_path, spec.source_format) as source:
            identity = [*_identity(spec.source_path), source.size]
            context.acquired(_RESOURCE, _COMPONENT, target.record())
            try:
                file, resumed = target.begin(resume=saved.get("source") == identity)
                earlier = saved.get("transfer") if resumed else None
                saved = {}
                with file:
                    transfer = ImageTransfer(
                        source, file, image_format,
                        context=context,
                        digest_path=context.scratch_dir / "target.digest",
                        save=lambda state: _save(context, saved, source=identity, transfer=state),
                        report=_Report(context),
                        final_name=spec.target_path.name,
                        options=options,
                        saved=earlier,
                        threads=spec.threads,
                    )  # fmt: skip
                    facts = transfer.run()
                    self._must_be_unchanged(spec.source_path, identity)
                    inode = os.fstat(file.fileno()).st_ino
                _save(context, saved, facts=facts.to_json(), inode=inode)
                target.publish()
            except Exception as exc:
                if not (isinstance(exc, HyperError) and exc.retryable):
                    target.discard()
                    context.released(_RESOURCE)
                raise
        moved = {
            "bytes_read": transfer.bytes_read,
            "bytes_written": transfer.bytes_written,
            "seconds": transfer.seconds,
        }
        return self._done(context, spec, facts, moved)

    def plan(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = ConvertSpec.parse(spec)
        return {
            "source": str(wanted.source_path),
            "target": str(wanted.target_path),
            "format": wanted.image_format,
            "verify": "the image is read back before it gets its name",
        }

    def cleanup(self, record: Mapping[str, Any]) -> None:
        """Remove what a dead runner left. Idempotent."""
        cleanup_record(record)

    def _done(
        self, context: TaskContext, spec: ConvertSpec, facts: ImageFacts, moved: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        context.released(_RESOURCE)
        return {
            "target_path": str(spec.target_path),
            "format": spec.image_format,
            "size_bytes": facts.file_bytes,
            "allocated_bytes": facts.allocated_bytes,
            "sha256": facts.file_sha256,
            "siblings": [
                {"path": str(spec.target_path.with_name(sibling.name)), "size_bytes": sibling.file_bytes,
                 "allocated_bytes": sibling.allocated_bytes, "sha256": sibling.file_sha256}
                for sibling in facts.siblings
            ],
            "virtual_size_bytes": facts.virtual_size,
            "content": facts.content(),
            **moved,
        }

    def _must_be_unchanged(self, path: Path, identity: list[int]) -> None:
        if _identity(path) != identity[:-1]:
            raise FailedPrecondition(
                f"{str(path)!r} changed while it was converted, so the copy would be torn; shut down whatever "
                "writes it and convert again",
                reason="SOURCE_CHANGED",
            )


def _save(context: TaskContext, saved: dict[str, Any], **fields: Any) -> None:
    saved.update(fields)
    context.save_checkpoint(saved)


class _Report:
    """Tells the progress of both stages. What was moved is counted once, by the copy; the reading back shows in
    `phase`
    and `details`."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._copied = CopyProgress(0, 0, 0, 0)

    def __call__(self, stage: Stage, progress: CopyProgress) -> None:
        total = progress.bytes_total
        details = {}
        if stage == "copy":
            self._copied = progress
        else:
            details = {"offset": progress.offset, "total": total}
        phase, done = ("copying", progress.offset) if stage == "copy" else ("verifying", total)
        moved = self._copied
        self._context.progress(Progress(phase, done, total, moved.bytes_read, moved.bytes_written, details=details))


def _identity(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def _was_published(saved: Mapping[str, Any], path: Path) -> bool:
    """Is the file under the target's name the one that an earlier attempt had finished?"""
    if "facts" not in saved:
        return False
    try:
        status = path.stat()
    except OSError:
        return False
    return bool(status.st_ino == saved.get("inode") and status.st_size == saved["facts"]["file_bytes"])
