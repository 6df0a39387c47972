"""Conformance suites and stand-ins for people who write plugins.

    storage_contract    StorageContract    what every `hypersdk.storage` must keep
    provider_contract   ProviderContract   what every `hypersdk.provider` must keep
    notifier_contract   NotifierContract   what every `hypersdk.notifier` must keep
    format_contract     ImageFormatContract  what every `hypersdk.format` must keep
    readonly_contract   ReadOnlyFormatContract  the same of a format that is read and not written
    extent_law          ExtentLawContract  full + increments = source, of every provider with change tracking
    task_contract       TaskContract       what every `hypersdk.task` must keep
    pricing_contract    PriceTableContract what every `hypersdk.pricing` must keep
    secrets_contract    SecretSourceContract what every `hypersdk.secrets` must keep
    service_contract    ServiceContract    what every `hypersdk.service` with a process must keep
    carbon_contract     CarbonSourceContract what every `hypersdk.carbon` must keep
    executor_contract   ExecutorContract   what every `hypersdk.executor` must keep
    manifest_contract   ManifestContract   does the manifest say the truth
    storage             MemoryStorage: a storage that forgets, with faults on demand
    provider            MemoryProvider: a platform in memory, with changed blocks
    faults              SyscallFaults: the n-th call of the operating system fails
    conformance         the engine of `hyperctl plugin test`; call: one call of a plugin, for a debugger
    blocks              PatternSource, FaultySource, MemorySink
    task_context        LocalTaskContext: a runner's context in this process, with cancel, pause and kill

A suite is run by subclassing it in a test module and giving the fixtures that its docstring names:

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path):
            storage = MyStorage()
            storage.configure({"path": str(tmp_path)}, {})
            return storage

Each check's docstring tells what it means and how to mend a plugin that fails it. Imports are lazy: a
plugin that needs no numpy need not install it to run the storage suite.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "CarbonSourceContract": "carbon_contract",
    "ExecutorContract": "executor_contract",
    "ExtentLawContract": "extent_law",
    "FaultySource": "blocks",
    "ImageFormatContract": "format_contract",
    "Killed": "task_context",
    "LocalServiceContext": "service_contract",
    "LocalTaskContext": "task_context",
    "ManifestContract": "manifest_contract",
    "MemoryProvider": "provider",
    "MemorySink": "blocks",
    "MemoryStorage": "storage",
    "NotifierContract": "notifier_contract",
    "PatternSource": "blocks",
    "PriceTableContract": "pricing_contract",
    "ProviderContract": "provider_contract",
    "ReadOnlyFormatContract": "readonly_contract",
    "Receiver": "notifier_contract",
    "RunningService": "service_contract",
    "SecretSourceContract": "secrets_contract",
    "ServiceContract": "service_contract",
    "StorageContract": "storage_contract",
    "SyscallFaults": "faults",
    "TaskContract": "task_contract",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
