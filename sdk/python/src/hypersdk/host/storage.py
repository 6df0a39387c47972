"""StorageService (proto/hypersdk/api/storage/v1) on a Storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.storage import ObjectInfo, Storage, check_key


def _health(storage: Storage, _call: Call) -> dict[str, Any]:
    return result.health(storage.health())


def _list_objects(storage: Storage, call: Call) -> dict[str, Any]:
    page = storage.list(call.text("prefix"), call.page_size(), call.text("page_token"))
    objects, token = result.page_of(page, ObjectInfo, "objects")
    return {"objects": [_object(o, call.connection) for o in objects], "next_page_token": token}


def _get_object(storage: Storage, call: Call) -> dict[str, Any]:
    found = storage.stat(check_key(call.child("objects")))
    return _object(result.instance_of(found, ObjectInfo, "object"), call.connection)


def _delete_object(storage: Storage, call: Call) -> dict[str, Any]:
    key = check_key(call.child("objects"))
    if call.message.get("validate_only") is not True:
        storage.delete(key)
    return {}


def _get_usage(storage: Storage, call: Call) -> dict[str, Any]:
    usage: Mapping[str, Any] = result.json_object(storage.usage(), "usage")
    fields = ("used_bytes", "free_bytes", "object_count")
    counts = {field: result.integer(usage.get(field, -1), f"usage.{field}", -1) for field in fields}
    return {"name": f"{call.connection}/usage", **counts}


METHODS: Mapping[str, Callable[[Storage, Call], dict[str, Any]]] = {
    "Health": _health,
    "ListObjects": _list_objects,
    "GetObject": _get_object,
    "DeleteObject": _delete_object,
    "GetUsage": _get_usage,
}


def _object(info: ObjectInfo, connection: str) -> dict[str, Any]:
    key = result.text(info.key, "object.key")
    return {
        "name": f"{connection}/objects/{key}",
        "key": key,
        "size_bytes": result.integer(info.size_bytes, "object.size_bytes", 0),
        "update_time": result.timestamp(info.modified_s, "object.modified_s"),
        "etag": result.text(info.etag, "object.etag"),
        "metadata": result.text_map(info.metadata, "object.metadata"),
    }
