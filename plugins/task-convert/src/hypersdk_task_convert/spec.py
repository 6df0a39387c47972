"""ConvertSpec: `Job.spec` of a conversion as a value. Its shape was checked against the schema of
manifest.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument


@dataclass(frozen=True, slots=True)
class ConvertSpec:
    """`source_format` empty: the content decides."""

    source_path: Path
    target_path: Path
    image_format: str
    source_format: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    compress: bool = False
    overwrite: bool = False
    threads: int = 0

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> ConvertSpec:
        """Raises InvalidArgument (SPEC_INVALID)."""
        return cls(
            source_path=_path(spec, "source_path"),
            target_path=_path(spec, "target_path"),
            image_format=str(spec.get("format", "")),
            source_format=str(spec.get("source_format") or ""),
            options={str(k): str(v) for k, v in dict(spec.get("options") or {}).items()},
            compress=spec.get("compress") is True,
            overwrite=spec.get("overwrite") is True,
            threads=int(spec.get("max_threads") or 0),
        )


def _path(spec: Mapping[str, Any], name: str) -> Path:
    text = spec.get(name)
    if not isinstance(text, str) or not os.path.isabs(text) or "\0" in text:
        raise InvalidArgument(
            f"a conversion's spec needs `{name}`, an absolute path on the kernel's machine",
            reason="SPEC_INVALID",
            violations=(FieldViolation(f"spec.{name}", "must be an absolute path"),),
        )
    return Path(text)
