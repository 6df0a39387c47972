"""The document `manifest.json` that an export leaves beside its images, and the job's result.

`schema` names its version. Everything a restore or an auditor needs is in it: the machine as the platform
told it, every file with its digest, the digests of what the disks hold, what made it and when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

from hypersdk.plugin import Machine

from hypersdk_task_export.disk import ExportedDisk
from hypersdk_task_export.package import Package

SCHEMA = "hypersdk.dev/export/v1"


def build(
    machine: Machine,
    name: str,
    job: str,
    image_format: str,
    disks: Sequence[ExportedDisk],
    plugins: Mapping[str, object],
    started: str,
    package: Package | None = None,
) -> bytes:
    """The manifest as UTF-8 JSON. `name`: the machine's resource name; `plugins`: component → instance; `package`: what
    the files are members of."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "job": job,
        "start_time": started,
        "end_time": now(),
        "format": image_format,
        "machine": {"name": name, **asdict(machine)},
        "files": [_file(disk) for disk in disks],
        **({"package": asdict(package)} if package is not None else {}),
        "tool": {"name": "hypersdk", "version": _version("hypersdk")},
        "plugins": {component: _origin(component, instance) for component, instance in sorted(plugins.items())},
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str).encode() + b"\n"


def result(manifest_key: str, disks: Sequence[ExportedDisk], bytes_read: int, bytes_written: int) -> dict[str, Any]:
    """What the job returns."""
    seconds: dict[str, float] = {}
    for disk in disks:
        for phase, spent in disk.seconds.items():
            seconds[phase] = round(seconds.get(phase, 0.0) + spent, 3)
    return {
        "manifest": manifest_key,
        "files": [
            {"key": d.key, "disk": d.disk.id, "size_bytes": d.facts.file_bytes, "sha256": d.facts.file_sha256,
             "content_sha256": d.facts.sha256, "virtual_size_bytes": d.facts.virtual_size, "reused": d.reused}
            for d in disks
        ],
        "virtual_bytes": sum(d.facts.content_bytes for d in disks),
        "file_bytes": sum(d.facts.file_bytes for d in disks),
        "bytes_read": bytes_read,
        "bytes_written": bytes_written,
        "seconds": seconds,
    }  # fmt: skip


def now() -> str:
    """RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _file(disk: ExportedDisk) -> dict[str, Any]:
    facts = disk.facts
    return {
        "disk": disk.disk.id,
        "key": disk.key,
        **({"member": disk.member} if disk.member else {}),
        "size_bytes": facts.file_bytes,
        "allocated_bytes": facts.allocated_bytes,
        "sha256": facts.file_sha256,
        "virtual_size": facts.virtual_size,
        "content": facts.content(),
        "source": dict(disk.source),
    }


def _origin(component: str, instance: object) -> dict[str, str]:
    """The distribution whose entry point names the object's class; empty where it was not installed as
    one."""
    kind, _, component_id = component.partition("/")
    package = type(instance).__module__.partition(".")[0]
    for point in entry_points(group=f"hypersdk.{kind}", name=component_id):
        if point.module.partition(".")[0] == package and point.dist is not None:
            return {"distribution": point.dist.name, "version": point.dist.version}
    return {"distribution": "", "version": ""}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
