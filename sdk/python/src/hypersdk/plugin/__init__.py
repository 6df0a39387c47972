"""The contracts that a plugin implements, and its manifest. Standard library only, so that a plugin's own
dependencies can never clash with ours.

A plugin is an installable distribution with entry points in the groups `hypersdk.<kind>`. Each entry point names a
class: a subclass of the kind's contract, created with no arguments and configured afterwards. Beside the class, in the
same package, lies `manifest.json`, which the kernel reads without importing anything.

    kind        contract          one instance is
    provider    Provider          a platform, opened for one connection
    format      ImageFormat       a disk-image format
    storage     Storage           a place for objects, opened for one connection
    task        Task              a job type
    notifier    Notifier          a way to tell somebody of events, opened for one connection
    pricing     PriceTable        the prices of a storage
    secrets     SecretSource      a vault, opened for one connection
    service     Service           a process that runs as long as the kernel, or methods of its own
    carbon      CarbonSource      when a job that may wait is best started
    executor    Executor          an engine that places runners elsewhere, opened for one connection

Methods marked (C) are called in the control host, (R) in a runner, (CR) in both.

Names are imported when they are first used: a format plugin does not pay 10 ms for the contracts of providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypersdk.plugin.carbon import CarbonSource, DelayRequest, Intensity, StartAdvice
    from hypersdk.plugin.executor import Executor, Node, Order, OrderStatus, Placement
    from hypersdk.plugin.image_format import CheckReport, ImageFormat
    from hypersdk.plugin.manifest import API_VERSION, ComponentManifest, Manifest, MethodPolicy
    from hypersdk.plugin.notifier import Notification, Notifier, Receipt
    from hypersdk.plugin.pricerows import read_rows
    from hypersdk.plugin.pricing import PriceRow, PriceTable, Quote, QuoteLine, QuoteRequest, StorageClass
    from hypersdk.plugin.provider import ChangeSet, DiskSpec, Health, Machine, MachineDisk, Nic, Page, Provider
    from hypersdk.plugin.rpcs import rpc
    from hypersdk.plugin.secrets import Secret, SecretSource
    from hypersdk.plugin.service import Service, ServiceContext
    from hypersdk.plugin.storage import ObjectInfo, ObjectWriter, Storage
    from hypersdk.plugin.task import Progress, Task, TaskContext

_HOMES = {
    "carbon": ("CarbonSource", "DelayRequest", "Intensity", "StartAdvice"),
    "executor": ("Executor", "Node", "Order", "OrderStatus", "Placement"),
    "image_format": ("CheckReport", "ImageFormat"),
    "manifest": ("API_VERSION", "ComponentManifest", "Manifest", "MethodPolicy"),
    "notifier": ("Notification", "Notifier", "Receipt"),
    "pricerows": ("read_rows",),
    "pricing": ("PriceRow", "PriceTable", "Quote", "QuoteLine", "QuoteRequest", "StorageClass"),
    "provider": ("ChangeSet", "DiskSpec", "Health", "Machine", "MachineDisk", "Nic", "Page", "Provider"),
    "secrets": ("Secret", "SecretSource"),
    "rpcs": ("rpc",),
    "service": ("Service", "ServiceContext"),
    "storage": ("ObjectInfo", "ObjectWriter", "Storage"),
    "task": ("Progress", "Task", "TaskContext"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "API_VERSION", "CarbonSource", "ChangeSet", "CheckReport", "ComponentManifest", "DelayRequest", "DiskSpec",
    "Executor", "Health", "ImageFormat", "Intensity", "Machine", "MachineDisk", "Manifest", "MethodPolicy", "Nic",
    "Node", "Notification", "Notifier", "ObjectInfo", "ObjectWriter", "Order", "OrderStatus", "Page", "Placement",
    "PriceRow", "PriceTable", "Progress", "Provider", "Quote", "QuoteLine", "QuoteRequest", "Receipt", "Secret",
    "SecretSource", "Service", "ServiceContext", "StartAdvice", "Storage", "StorageClass", "Task", "TaskContext",
    "read_rows", "rpc",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
