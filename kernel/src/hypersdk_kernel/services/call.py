"""What a service's method knows of the call it answers, and what makes a class a service."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from hypersdk_kernel.store.requests import RequestKey

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Call:
    """actor: `local` or `token`. key: set when the request has a request_id. timeout_s: seconds left when the call
    came."""

    actor: str
    key: RequestKey | None
    timeout_s: float


class Service:
    """Base of all.

    unserved  methods of a foreign descriptor that we do not have; they answer UNIMPLEMENTED
    public    answers without authentication, because it tells nothing
    """

    descriptor: ClassVar[ServiceDescriptor]
    public: ClassVar[bool] = False
    unserved: ClassVar[frozenset[str]] = frozenset()

    def method(self, name: str) -> Callable[[Any, Call], Any]:
        """The implementation of the proto method `name`. AttributeError at start-up beats UNIMPLEMENTED in use."""
        found: Callable[[Any, Call], Any] = getattr(self, _WORD_START.sub("_", name).lower())
        return found
