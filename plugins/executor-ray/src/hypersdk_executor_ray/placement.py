"""A job's `placement` as Ray has it: labels of nodes, and amounts of resources that an attempt takes while it runs.

    cpus, gpus, memory_bytes    amounts of Ray's own resources; cpus is 1 when it is not given
    resource:NAME               an amount of a custom resource
    anything else               a label that the node must have (`ray start --labels site=branch`)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from hypersdk.plugin.executor import wrong_placement

_OWN = {"cpus": "num_cpus", "gpus": "num_gpus", "memory_bytes": "memory"}
_PREFIX = "resource:"
_RESOURCE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_MOST = 1e15


def options(placement: Mapping[str, str]) -> dict[str, Any]:
    """Options of a Ray actor. Raises InvalidArgument (PLACEMENT_INVALID)."""
    found: dict[str, Any] = {"num_cpus": 1.0}
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}
    for key, value in placement.items():
        if key in _OWN:
            found[_OWN[key]] = _amount(key, value)
        elif key.startswith(_PREFIX):
            name = key.removeprefix(_PREFIX)
            if not _RESOURCE.fullmatch(name):
                raise wrong_placement(key, "names no resource: letters, digits, _ . : - are allowed")
            resources[name] = _amount(key, value)
        elif not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise wrong_placement(key, "is no label of a node: letters, digits, _ . - in key and value")
        else:
            labels[key] = value
    if resources:
        found["resources"] = resources
    if labels:
        found["label_selector"] = labels
    return found


def _amount(key: str, value: str) -> float:
    try:
        amount = float(value)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < _MOST:
        raise wrong_placement(key, f"must be an amount, not {value[:64]!r}")
    return amount
