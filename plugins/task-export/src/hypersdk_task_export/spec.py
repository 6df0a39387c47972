"""ExportSpec: `Job.spec` of an export as a value. Its shape was checked against the schema of
manifest.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.plugin.storage import check_key

MANIFEST_NAME = "manifest.json"

# Where the usual extension is not qemu-img's name of the format.
_EXTENSIONS = {"vpc": "vhd"}
_PACKED_FORMAT = "vmdk"


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """`connection` and `machine_id` are the two halves of the spec's `machine`; `disks` empty: all."""

    connection: str
    machine_id: str
    target: str
    prefix: str
    image_format: str = "qcow2"
    options: Mapping[str, str] = field(default_factory=dict)
    compress: bool = False
    disks: tuple[str, ...] = ()
    threads: int = 0
    package: str = ""

    @classmethod
    def parse(cls, spec: Mapping[str, Any], job: str) -> ExportSpec:
        """Raises InvalidArgument (SPEC_INVALID, OBJECT_KEY_INVALID)."""
        connection, separator, machine_id = str(spec.get("machine", "")).partition("/machines/")
        if not separator or not machine_id:
            raise InvalidArgument(
                "an export's spec needs `machine` as connections/{connection}/machines/{machine}",
                reason="SPEC_INVALID",
                violations=(FieldViolation("spec.machine", "must name a machine of a connection"),),
            )
        prefix = str(spec.get("prefix") or f"{machine_id}/{job.rpartition('/')[2]}")
        check_key(f"{prefix}/{MANIFEST_NAME}")
        package = str(spec.get("package") or "")
        image_format = str(spec.get("format") or (_PACKED_FORMAT if package else "qcow2"))
        if package and (image_format != _PACKED_FORMAT or spec.get("options")):
            raise InvalidArgument(
                "the disks of a package are streamOptimized VMDKs; leave out `format` and `options`, or `package`",
                reason="SPEC_INVALID",
                violations=(FieldViolation("spec.format", "must be vmdk or absent, without options, for a package"),),
            )
        return cls(
            connection=connection,
            machine_id=machine_id,
            target=str(spec.get("target", "")),
            prefix=prefix,
            image_format=image_format,
            options={str(k): str(v) for k, v in dict(spec.get("options") or {}).items()},
            compress=spec.get("compress") is True,
            disks=tuple(str(disk) for disk in spec.get("disks") or ()),
            threads=int(spec.get("max_threads") or 0),
            package=package,
        )

    def disk_key(self, disk_id: str, format_name: str) -> str:
        return f"{self.prefix}/{disk_id}.{_EXTENSIONS.get(format_name, format_name)}"

    @property
    def package_key(self) -> str:
        return f"{self.prefix}/{self.machine_id}.{self.package}"

    @property
    def manifest_key(self) -> str:
        return f"{self.prefix}/{MANIFEST_NAME}"
