"""Opening a machine's disk: a whole image file, or a window of an archive.

Imported only in a runner: it needs `hypersdk.data`, which listing machines does not.
"""

from __future__ import annotations

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.names import printable
from hypersdk.data.ovf.spool import unpack
from hypersdk.data.source import BlockSource
from hypersdk.errors import InvalidArgument
from hypersdk.plugin import TaskContext
from hypersdk.plugin.image_format import PROBE_BYTES

from hypersdk_provider_directory.package import Window

_TAIL_BYTES = 512


def open_window(window: Window, format_name: str, context: TaskContext) -> BlockSource:
    """The image in the window as a source, unpacked into the job's scratch directory when it is compressed as a whole.
    Without `format_name` the content decides."""
    if window.length < 0 and not window.unpack_limit:
        return context.open_image(window.path, format_name)
    length = None if window.length < 0 else window.length
    file = ImageFile.open(window.path, base=window.base, length=length, follow=False)
    try:
        if window.unpack_limit:
            context.scratch_dir.mkdir(parents=True, exist_ok=True)
            with file as packed:
                file = unpack(packed, window.unpack_limit, context.scratch_dir)
        if format_name:
            return context.image_format(format_name).open(file)
        head = file.pread(0, min(PROBE_BYTES, file.size))
        tail_bytes = min(_TAIL_BYTES, file.size)
        tail = file.pread(file.size - tail_bytes, tail_bytes)
        best = max(context.image_formats(), key=lambda f: f.probe(head, tail, file.size), default=None)
        if best is None or best.probe(head, tail, file.size) == 0:
            raise InvalidArgument(
                f"no installed format knows the image at byte {window.base} of {printable(window.path.name)}",
                reason="FORMAT_UNRECOGNISED",
            )
        return best.open(file)
    except BaseException:
        file.close()
        raise
