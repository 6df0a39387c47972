"""From a manifest's entry point to a class that keeps its contract, with errors that a plugin's author can
act on.

Importing runs the plugin's code: only hosts and runners do it, never the kernel.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from hypersdk.errors import FailedPrecondition, HyperError, Unsupported

CONTRACTS: dict[str, str] = {
    "provider": "provider:Provider",
    "format": "image_format:ImageFormat",
    "storage": "storage:Storage",
    "task": "task:Task",
    "notifier": "notifier:Notifier",
    "pricing": "pricing:PriceTable",
    "secrets": "secrets:SecretSource",
    "service": "service:Service",
    "carbon": "carbon:CarbonSource",
    "executor": "executor:Executor",
}
"""kind → module of hypersdk.plugin and class; a host imports those of its own components only."""


def contract_of(kind: str) -> type[Any] | None:
    """The contract of a kind, None when this SDK has none."""
    module, _, name = CONTRACTS.get(kind, "").partition(":")
    if not module:
        return None
    contract: type[Any] = getattr(importlib.import_module(f"hypersdk.plugin.{module}"), name)
    return contract


def extend_search_path(paths: Sequence[str]) -> None:
    """Put `paths`, in their order, before everything else on the module path."""
    new = [p for p in dict.fromkeys(paths) if p not in sys.path]
    sys.path[0:0] = new


def load(component: str, entry: str) -> type[Any]:
    """The class `module:Class` of a component (`kind/id`).

    Raises Unsupported (COMPONENT_KIND_UNSUPPORTED), FailedPrecondition: PLUGIN_IMPORT_FAILED when the
    module raises (anything, SystemExit too), PLUGIN_CLASS_INVALID when what it has is not the kind's
    contract."""
    contract = contract_of(component.partition("/")[0])
    if contract is None:
        raise Unsupported(
            f"{component}: known kinds are {', '.join(CONTRACTS)}; the plugin needs a newer hypersdk",
            reason="COMPONENT_KIND_UNSUPPORTED",
            metadata={"component": component},
        )
    module_name, _, class_name = entry.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part)
    except BaseException as exc:  # a module may raise anything while it is imported
        text = f"cannot be imported: {type(exc).__name__}: {exc}{_where(exc)}"
        raise _failed(component, entry, "PLUGIN_IMPORT_FAILED", text) from exc
    if not isinstance(found, type) or not issubclass(found, contract):
        raise _failed(component, entry, "PLUGIN_CLASS_INVALID", f"is not a subclass of {contract.__name__}")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise _failed(component, entry, "PLUGIN_CLASS_INVALID", f"does not implement {', '.join(missing)}")
    return found


def create(component: str, cls: type[Any]) -> Any:
    """An instance. Raises FailedPrecondition (PLUGIN_CLASS_INVALID) when it cannot be made without
    arguments."""
    try:
        return cls()
    except HyperError:
        raise
    except BaseException as exc:  # a constructor may raise anything, SystemExit too
        text = f"cannot be created without arguments: {type(exc).__name__}: {exc}{_where(exc)}"
        entry = f"{cls.__module__}:{cls.__qualname__}"
        raise _failed(component, entry, "PLUGIN_CLASS_INVALID", text) from exc


def _failed(component: str, entry: str, reason: str, text: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{component}: {entry} {text}", reason=reason, metadata={"component": component, "entry": entry}
    )


def _where(exc: BaseException) -> str:
    """` (at file:line)` of the innermost frame, which is where the author has to look."""
    trace = exc.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" (at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
