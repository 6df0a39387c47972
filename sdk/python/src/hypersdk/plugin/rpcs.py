"""rpc: marks the methods of a component that answer a gRPC service of its own.

The service comes as a descriptor set (`descriptor_set` in the manifest); clients see it by reflection and call it
through the kernel. Not here: proto messages, which the kernel turns to JSON and back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_FULL_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){2,}")
_MARK = "__hypersdk_rpc__"


def rpc(full_name: str) -> Callable[[F], F]:
    """Marks the method that answers a gRPC method of the component's own service, by its full name in the proto:
    `example.notes.v1.NoteService.AddNote`.

    The method takes the request and returns the response, each as proto3 JSON (a dict; field names as in the proto
    file, 64-bit integers as numbers or strings, enums by name). Raise errors of hypersdk.errors; clients see them as
    the kernel's own. Fields have passed the proto's validation rules. Works on a class of any kind.

    ValueError for what is no such name, or one of ours."""
    if not _FULL_NAME.fullmatch(full_name) or full_name.startswith(("hypersdk.", "google.", "grpc.")):
        raise ValueError(f"{full_name!r} must be package.Service.Method of a package of your own")

    def mark(function: F) -> F:
        setattr(function, _MARK, full_name)
        return function

    return mark


def rpcs_of(cls: type[Any]) -> dict[str, str]:
    """Full name of a gRPC method → name of the Python method that answers it."""
    found: dict[str, str] = {}
    for name in dir(cls):
        full_name = getattr(getattr(cls, name, None), _MARK, None)
        if isinstance(full_name, str):
            found[full_name] = name
    return found
