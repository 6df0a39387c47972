"""Opening images that are tables of units: options, backing chains, refusals; the policy that such formats share.

A format gives a function that parses one file into a `Layer`; `open_layers` makes a UnitSource of it and of the
layers below. A backing file is opened only with `chain=on`, only as a plain name beside the image
(ImageFile.open_sibling), and only in a format that the image or the user names: guest data is never probed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypersdk.data.backing import Seen, backing_format, backing_refusal, open_foreign, open_parent
from hypersdk.data.formatoptions import FormatOptions

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.source import BlockSource
    from hypersdk.data.unitcodecs import Decoder
    from hypersdk.data.unitmap import UnitMap
    from hypersdk.data.unitsource import UnitSource
    from hypersdk.errors import FailedPrecondition

_KNOWN = ("chain", "backing_fmt")


@dataclass(frozen=True)
class Layer:
    """One parsed file.

    size            of the disk, bytes
    granularity     bytes, a power of two
    info            what BlockSource.info is to tell
    backing_name    name of the backing file, None without one
    backing_format  its format if the image records it, else ""
    """

    units: UnitMap
    size: int
    granularity: int
    info: Mapping[str, Any]
    decoders: Sequence[Decoder] = field(default=())
    backing_name: str | None = None
    backing_format: str = ""


Parse = Callable[["ImageFile"], Layer]


def open_layers(name: str, file: ImageFile, options: Mapping[str, str] | None, parse: Parse) -> UnitSource:
    """The disk in `file`, an image of format `name`; takes over `file`, and closes it on failure. Options: `chain`
    (on, off) and `backing_fmt`. Raises InvalidArgument (OPTION_UNKNOWN, OPTION_INVALID), FailedPrecondition
    (IMAGE_HAS_PARENT, BACKING_FORMAT_UNKNOWN), MalformedImage, and what `parse` raises."""
    try:
        given = FormatOptions(name, options, _KNOWN, doing="reading")
        given.one_of("chain", ("on", "off"), "off")
        return _open(name, file, options or {}, parse, ())
    except BaseException:
        file.close()
        raise


def _open(
    name: str, file: ImageFile, options: Mapping[str, str], parse: Parse, above: Seen
) -> UnitSource:
    from hypersdk.data.unitsource import UnitSource

    layer = parse(file)
    info = dict(layer.info)
    backing: BlockSource | None = None
    refusal: FailedPrecondition | None = None
    if layer.backing_name is not None:
        info |= {"backing_file": layer.backing_name, "backing_format": layer.backing_format or None}
        if options.get("chain") == "on":
            backing = _open_backing(name, file, layer, options, parse, above)
            info["backing"] = backing.info()
        else:
            refusal = backing_refusal(file, layer.backing_name, layer.backing_format)
            if "chain" not in options:
                raise refusal
    return UnitSource(
        file, layer.units, size=layer.size, granularity=layer.granularity, info=info, decoders=layer.decoders,
        backing=backing, refusal=refusal,
    )  # fmt: skip


def _open_backing(
    name: str, file: ImageFile, layer: Layer, options: Mapping[str, str], parse: Parse, above: Seen
) -> BlockSource:
    parent = str(layer.backing_name)
    format_name = backing_format(file, parent, layer.backing_format, options.get("backing_fmt", ""))
    sibling, seen = open_parent(file, parent, above, structure="backing file", reason="BACKING_CHAIN_LOOP")
    if format_name == name:
        return _open(name, sibling, options, parse, seen)
    return open_foreign(sibling, format_name)
