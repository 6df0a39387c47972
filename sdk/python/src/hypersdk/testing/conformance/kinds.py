"""What is known of each kind, taken from where the host itself has it, so that neither can forget the other."""

from __future__ import annotations

import importlib
from functools import cache

from hypersdk.errors import KINDS, from_exception
from hypersdk.host.calls import ADAPTERS

SERVICES = {
    "provider": "hypersdk.api.inventory.v1.InventoryService",
    "format": "hypersdk.api.formats.v1.FormatService",
    "storage": "hypersdk.api.storage.v1.StorageService",
    "pricing": "hypersdk.api.pricing.v1.PricingService",
}
"""The domain service of a kind; kinds without one have methods that only the kernel calls."""
RUNTIME = frozenset(
    {"CALL_INVALID", "COMPONENT_UNKNOWN", "METHOD_UNKNOWN", "CONNECTION_REQUIRED", "HOST_DRAINING",
     "HOST_NOT_INITIALIZED", "FRAME_TOO_LARGE", "TOO_MANY_REQUESTS", "PAGE_TOKEN_INVALID", "OBJECT_KEY_INVALID",
     "NOT_A_REGULAR_FILE", "IMAGE_TRUNCATED", "OPTION_INVALID", "OPTION_UNKNOWN", "OFFSET_PAST_END",
     "RESUME_STATE_INVALID", "SINK_CLOSED", "WRITE_OUT_OF_ORDER",
     *(cls.default_reason for cls in KINDS.values()),
     *(from_exception(OSError(number, "")).reason for number in range(1, 134))}
)  # fmt: skip
"""Reasons of the runtime and of the SDK's own helpers, documented in docs/errors.md; a manifest need not declare
them, nor a README explain them."""
DISK_METHODS = frozenset({"OpenDisk", "CloseDisk", "Cleanup"})
"""What a provider that is not written in Python answers in a runner besides."""
OWN_METHODS = frozenset({"Health", "Plan", "Send", "Resolve", "Run"})
"""Methods that belong to no service."""
EFFECTS = frozenset({"Send", "Run", "Submit", "Cancel"})
"""Methods that tell somebody something or start something: called with what the samples give and nothing else."""


@cache
def methods_of(kind: str) -> frozenset[str]:
    """The methods that a host of this kind answers; empty for a kind that this SDK cannot serve."""
    if kind not in ADAPTERS:
        return frozenset()
    return frozenset(importlib.import_module(f"hypersdk.host.{ADAPTERS[kind]}").METHODS)


def service_of(kind: str, method: str) -> str:
    return "" if method in OWN_METHODS else SERVICES.get(kind, "")
