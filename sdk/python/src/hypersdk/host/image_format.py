"""FormatService (proto/hypersdk/api/formats/v1) on an ImageFormat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.image_format import ImageFormat


def _health(_image_format: ImageFormat, _call: Call) -> dict[str, Any]:
    """It was imported and made, which is all that a format needs."""
    return {"ok": True, "message": "", "latency_s": 0.0, "details": {}}


def _get_format(image_format: ImageFormat, call: Call) -> dict[str, Any]:
    return {
        "name": f"formats/{call.component.partition('/')[2]}",
        "display_name": str(call.manifest.get("summary", "")),
        "aliases": list(call.manifest.get("aliases", [])),
        "extensions": list(call.manifest.get("extensions", [])),
        "capabilities": sorted(call.manifest.get("capabilities", [])),
        "create_options": result.text_map(image_format.create_options(), "create_options"),
    }


def _list_formats(image_format: ImageFormat, call: Call) -> dict[str, Any]:
    """Its own one; the kernel joins those of all hosts."""
    return {"formats": [_get_format(image_format, call)], "next_page_token": ""}


def _inspect_image(image_format: ImageFormat, call: Call) -> dict[str, Any]:
    from hypersdk.data.imagefile import ImageFile

    file = ImageFile.open(call.text("path"))
    file_size, allocated = file.size, file.allocated_bytes
    try:
        source = image_format.open(file)
    except BaseException:
        file.close()
        raise
    with source:
        details = result.json_object(source.info(), "info")
        return {
            "format": str(details.get("format") or image_format.name),
            "virtual_size_bytes": result.integer(source.size, "size", 0),
            "file_size_bytes": file_size,
            "allocated_bytes": allocated,
            "details": details,
        }


METHODS: Mapping[str, Callable[[ImageFormat, Call], dict[str, Any]]] = {
    "Health": _health,
    "ListFormats": _list_formats,
    "GetFormat": _get_format,
    "InspectImage": _inspect_image,
}
