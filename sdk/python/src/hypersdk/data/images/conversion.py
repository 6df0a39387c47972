"""convert(): one image file into another format, crash-safe and resumable.

The target grows under `.<name>.partial-hypersdk` in its own directory and gets its name by a rename after it
is complete and synced; a crash leaves the old file or the new one, never half of one. An image of several files gets
the names of the others first; a crash between may leave some of those, but never a main file that is not complete.
With `resume`, a state file beside it says how far the data is durable, and of which source.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.data.images.inspection import open_image
from hypersdk.data.images.partial import PartialTarget
from hypersdk.data.pipeline import CopyHooks, CopyOptions, CopyResult, copy
from hypersdk.data.writebehind import WriteBehind
from hypersdk.errors import DataLoss, FailedPrecondition, InvalidArgument, from_exception

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.images.registry import FormatRegistry
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource
    from hypersdk.plugin.image_format import ImageFormat


def convert(
    src: str | Path,
    dst: str | Path,
    *,
    registry: FormatRegistry,
    dst_format: str,
    src_format: str = "",
    options: Mapping[str, str] | None = None,
    src_options: Mapping[str, str] | None = None,
    copy_options: CopyOptions | None = None,
    hooks: CopyHooks | None = None,
    resume: bool = False,
    durable: bool = True,
) -> CopyResult:
    """Write what the image `src` holds to `dst` (mode 0600, or that of the file it replaces) in `dst_format`.

    `options` are those of the target's format, `src_options` of the source's and of a backing file's, which
    `backing_file` and `backing_fmt` in `options` name: then only what differs from it is written. On failure
    nothing is left, unless `resume` was asked: then the next call with `resume` and the same arguments goes on from
    the last checkpoint, or from the start when the source has changed. With `durable` False nothing waits for the
    disk, as qemu-img does by default: a crash of this process still leaves a whole target or none, a power cut
    may not. Raises InvalidArgument (SAME_FILE, TARGET_NOT_A_FILE), Aborted (TARGET_BUSY), ResourceExhausted
    (DISK_FULL), AlreadyExists (TARGET_EXISTS, for another file of an image of several), and what formats and hooks
    raise."""
    source_path, target_path = Path(src), Path(os.path.realpath(dst))
    options, hooks, copy_options = dict(options or {}), hooks or CopyHooks(), copy_options or CopyOptions()
    image_format = registry.get(dst_format)
    with open_image(source_path, registry=registry, format_name=src_format, options=src_options) as source:
        if target_path.exists() and os.path.samefile(source_path, target_path):
            raise InvalidArgument(
                f"source and target are both {str(target_path)!r}; choose another target", reason="SAME_FILE"
            )
        identity = _identity(source_path, source, image_format.name, options)
        if options.get("backing_file"):
            from hypersdk.data.images.delta import base_identity, over_base  # numpy: 55 ms that only overlays pay

            identity["base"] = base_identity(target_path, options)
        partial = PartialTarget(target_path, protected=source_path)
        sink: BlockSink | None = None
        try:
            sink, offset = _begin(partial, identity, image_format, source.size, options, resume=resume, durable=durable)
            if options.get("backing_file"):
                sink = over_base(sink, partial.opened, options, registry, base_options=src_options)
            with _written_behind(partial.opened) if durable else nullcontext():
                result = copy(
                    source, sink,
                    options=dataclasses.replace(copy_options, resume_offset=offset),
                    hooks=_saving(hooks, partial, identity) if resume else hooks,
                )  # fmt: skip
            partial.publish()
        except BaseException as exc:
            if sink is not None:
                sink.abort()
            partial.discard(keep=resume)
            if isinstance(exc, OSError):
                raise from_exception(exc, doing=f"writing {str(target_path)!r}") from exc
            raise
        return result


def _begin(
    partial: PartialTarget,
    identity: dict[str, Any],
    image_format: ImageFormat,
    size: int,
    options: dict[str, str],
    *,
    resume: bool,
    durable: bool,
) -> tuple[BlockSink, int]:
    """The sink and the offset to go on from. A checkpoint that the format no longer accepts (the partial file was
    cut or changed) is dropped: starting afresh is always right."""
    file, saved = partial.begin(identity, resume=resume, durable=durable)
    if saved is not None:
        try:
            return image_format.create(file, size, options, saved["sink"]), int(saved["offset"])
        except (InvalidArgument, FailedPrecondition, DataLoss, KeyError, TypeError, ValueError):
            partial.discard(keep=False)
            file, _ = partial.begin(identity, resume=False, durable=durable)
    return image_format.create(file, size, options), 0


@contextmanager
def _written_behind(file: ImageFile) -> Iterator[None]:
    """The disk works while the copy goes on: on the file, and on the siblings that its sink began with."""
    with ExitStack() as stack:
        for fd in (file.fileno(), *(sibling.fileno() for sibling in file.siblings if sibling.writable)):
            # a descriptor of its own, because sinks close siblings that are complete
            own = os.dup(fd)
            stack.callback(os.close, own)
            stack.enter_context(WriteBehind(own))
        yield


def _saving(hooks: CopyHooks, partial: PartialTarget, identity: dict[str, Any]) -> CopyHooks:
    def save(offset: int, state: dict[str, Any]) -> None:
        partial.save(identity, {"offset": offset, "sink": state})
        if hooks.checkpoint is not None:
            hooks.checkpoint(offset, state)

    return dataclasses.replace(hooks, checkpoint=save)


def _identity(path: Path, source: BlockSource, target_format: str, options: dict[str, str]) -> dict[str, Any]:
    """What has to be the same for a resumed conversion to make sense."""
    facts = path.stat()
    return {
        "source": str(path.resolve()),
        "source_file": [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns],
        "virtual_size": source.size,
        "format": target_format,
        "options": options,
    }
