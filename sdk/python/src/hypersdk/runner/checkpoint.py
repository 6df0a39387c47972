"""The checkpoint: a job's last saved state, one JSON file that is replaced whole: after a crash at any
instant it is the old state or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypersdk.errors import DataLoss, InvalidArgument, from_exception

FILE_NAME = "checkpoint.json"
MAX_BYTES = 16 << 20


class CheckpointStore:
    """`checkpoint.json` of one job. Its callers serialize `save`."""

    def __init__(self, job_dir: Path) -> None:
        self._path = job_dir / FILE_NAME

    def exists(self) -> bool:
        return self._path.exists()

    def load(self) -> Mapping[str, Any] | None:
        """What was saved last; None when nothing was. Raises DataLoss (CHECKPOINT_CORRUPT)."""
        try:
            state = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as exc:
            raise self._corrupt(str(exc)) from exc
        if not isinstance(state, dict):
            raise self._corrupt("it is not an object")
        return state

    def save(self, state: Mapping[str, Any]) -> int:
        """Replace it; durable on return. Returns its size in bytes. Raises InvalidArgument
        (CHECKPOINT_INVALID), ResourceExhausted (DISK_FULL); then the former one stands."""
        try:
            data = json.dumps(dict(state), separators=(",", ":"), allow_nan=False).encode("ascii")
        except (TypeError, ValueError, RecursionError) as exc:
            raise InvalidArgument(f"the checkpoint is not JSON: {exc}", reason="CHECKPOINT_INVALID") from exc
        if len(data) > MAX_BYTES:
            text = f"the checkpoint has {len(data)} bytes; at most {MAX_BYTES} are kept"
            raise InvalidArgument(text, reason="CHECKPOINT_INVALID")
        temporary = self._path.with_name(FILE_NAME + ".new")
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            with contextlib.suppress(OSError):  # what matters is the error that got us here
                temporary.unlink(missing_ok=True)
            raise from_exception(exc, doing="saving the checkpoint") from exc
        return len(data)

    def _corrupt(self, text: str) -> DataLoss:
        return DataLoss(
            f"{self._path} cannot be read back: {text}; submit the job anew to start from the beginning",
            reason="CHECKPOINT_CORRUPT",
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
