"""hyperctl image convert."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hypersdk.errors import InvalidArgument, PermissionDenied, Unsupported

from hyperctl import exits
from hyperctl.image.options import target_options
from hyperctl.image.probing import source_format
from hyperctl.progress import ProgressLine
from hyperctl.units import format_bytes, format_duration

if TYPE_CHECKING:
    from hypersdk.data.images import FormatRegistry
    from hypersdk.data.pipeline import CopyProgress

_LONGEST_SLEEP_S = 0.5


class RateLimit:
    """Sleeps so that no more than `limit` bytes a second pass, over the life of the object. A pause (a stopped
    process) earns no burst above one second's worth."""

    def __init__(
        self,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def __call__(self, nbytes: int) -> None:
        """`nbytes` have passed."""
        self._due = max(self._due, self._clock() - 1.0) + nbytes / self._limit
        while (ahead := self._due - self._clock()) > 0:
            self._sleep(min(ahead, _LONGEST_SLEEP_S))


def run(arguments: argparse.Namespace) -> int:
    """Convert; say how much was moved, unless --quiet."""
    from hypersdk.data.images import FormatRegistry, convert
    from hypersdk.data.pipeline import CopyHooks, CopyOptions

    registry = FormatRegistry.installed()
    target_format = arguments.target_format or registry.for_extension(arguments.target)
    if not target_format:
        raise InvalidArgument(
            f"{arguments.target}: the extension tells no format; give one with -O, of: {', '.join(registry.names())}",
            reason="TARGET_FORMAT_MISSING",
        )
    options = target_options(arguments, target_format, registry)
    if options is None:
        return exits.OK
    if arguments.compress:
        if "compress" not in registry.get(target_format).create_options():
            raise Unsupported(
                f"format {target_format} has no option to compress; leave -c out", reason="COMPRESS_UNSUPPORTED"
            )
        options.setdefault("compress", "on")
    _name_base(arguments, target_format, options, registry)
    line = ProgressLine("converting", enabled=arguments.progress and not arguments.quiet)

    def show(progress: CopyProgress) -> None:
        saved = max(0, progress.offset - progress.bytes_written)
        line.update(progress.offset, progress.bytes_total, saved=saved)

    hooks = CopyHooks(
        progress=show if arguments.progress else None,
        throttle=RateLimit(arguments.rate_limit) if arguments.rate_limit else None,
    )
    try:
        result = convert(
            arguments.source, arguments.target, registry=registry,
            src_format=source_format(arguments.source, arguments.source_format, registry, quiet=arguments.quiet),
            dst_format=target_format, options=options, src_options={"chain": "on"} if arguments.chain else None,
            copy_options=CopyOptions(threads=arguments.parallel), hooks=hooks, resume=arguments.resume,
            durable=arguments.sync,
        )  # fmt: skip
    except KeyboardInterrupt:
        line.finish()
        hint = "; the same command goes on from its last checkpoint" if arguments.resume else "; nothing was left"
        sys.stderr.write(f"\nhyperctl: interrupted{hint}\n")
        return exits.INTERRUPTED
    line.finish()
    if arguments.progress and not arguments.quiet:
        sys.stderr.write(
            f"read {format_bytes(result.bytes_read)}, wrote {format_bytes(result.bytes_written)} "
            f"in {format_duration(result.seconds)}\n"
        )
    return exits.OK


def _name_base(
    arguments: argparse.Namespace, target_format: str, options: dict[str, str], registry: FormatRegistry
) -> None:
    """Turn -B and -F into the options of the target's format. BASE's format is what is recorded in the target, so a
    guess at it is made here, where the user sees it."""
    if arguments.base:
        options.setdefault("backing_file", arguments.base)
    name = options.get("backing_file", "")
    if arguments.base_format and name:
        options.setdefault("backing_fmt", arguments.base_format)
    if not name:
        if arguments.base_format:
            raise InvalidArgument("-F tells the format of BASE; give that with -B", reason="BASE_MISSING")
        return
    if "backing_file" not in registry.get(target_format).create_options():
        raise Unsupported(
            f"images of format {target_format} are not written over a backing file; qcow2 is",
            reason="BACKING_FILE_UNSUPPORTED",
        )
    if Path(name).name != name:
        raise PermissionDenied(
            f"BASE {name[:80]!r} must be the plain name of a file in {arguments.target}'s directory: that name is "
            "recorded, and no other kind is followed",
            reason="REFERENCE_REFUSED",
        )
    if not options.get("backing_fmt"):
        path = str(Path(arguments.target).parent / name)
        options["backing_fmt"] = source_format(path, "", registry, quiet=arguments.quiet)
