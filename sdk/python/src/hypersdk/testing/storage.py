"""MemoryStorage: a complete Storage in a dictionary, for tests of whatever writes to one.

It keeps the contract (its own suite runs on it) and fails on demand. It has no staging path unless asked
for one, so tests of both ways to write are cheap. Nothing survives the process.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypersdk.errors import (
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    HyperError,
    InvalidArgument,
    NotFound,
    OutOfRange,
)
from hypersdk.plugin import Health, ObjectInfo, ObjectWriter, Page, Storage
from hypersdk.plugin.storage import check_key


class MemoryStorage(Storage):
    """Thread-safe.

    fail_after_bytes   raise `failure` once that many bytes were written in all; -1 never
    staging            offer a staging_path (a temporary file) instead of None
    """

    def __init__(self, *, staging: bool = False) -> None:
        self.objects: dict[str, tuple[bytes, ObjectInfo]] = {}
        self.uploads: dict[str, _MemoryWriter] = {}
        self.fail_after_bytes = -1
        self.failure: HyperError | None = None
        self.staging_dir = Path(tempfile.mkdtemp(prefix="hypersdk-memory-storage-")) if staging else None
        self._lock = threading.Lock()
        self._clock = 0
        self._written = 0

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """Takes any configuration: there is nothing to configure."""

    def health(self) -> Health:
        return Health(True)

    def open_writer(self, key: str, *, if_absent: bool = False, resume: str = "") -> ObjectWriter:
        check_key(key)
        with self._lock:
            if resume:
                writer = self.uploads.get(resume)
                if writer is None:
                    raise NotFound(f"the upload of {key!r} has gone", reason="UPLOAD_GONE")
                return writer
            self._clock += 1
            writer = _MemoryWriter(self, key, f"upload-{self._clock}", if_absent)
            self.uploads[writer.token] = writer
            return writer

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        data, _ = self._object(key)
        if offset < 0 or length < 0 or offset + length > len(data):
            raise OutOfRange(f"{key!r} has {len(data)} bytes", reason="RANGE_PAST_END")
        return data[offset : offset + length]

    def stat(self, key: str) -> ObjectInfo:
        return self._object(key)[1]

    def list(self, prefix: str, page_size: int, page_token: str) -> Page[ObjectInfo]:
        after = page_token.removeprefix("after:")
        if page_token and (after == page_token or not after.startswith(prefix)):
            raise InvalidArgument(
                "the page token is not one of this list",
                reason="PAGE_TOKEN_INVALID",
                violations=(FieldViolation("page_token", "must come from the same list"),),
            )
        count = page_size if page_size > 0 else 50
        with self._lock:
            keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
            items = [self.objects[key][1] for key in keys[:count]]
        return Page(items, f"after:{items[-1].key}" if len(keys) > count else "")

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self.objects.pop(key, None)

    def usage(self) -> Mapping[str, int]:
        with self._lock:
            used = sum(len(data) for data, _ in self.objects.values())
            return {"used_bytes": used, "free_bytes": -1, "object_count": len(self.objects)}

    def cleanup(self, record: Mapping[str, Any]) -> None:
        with self._lock:
            self.uploads.pop(str(record.get("upload", "")), None)

    def publish(self, writer: _MemoryWriter, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """Put a writer's bytes under its key; for writers only."""
        with self._lock:
            if writer.if_absent and writer.key in self.objects:
                raise AlreadyExists(f"object {writer.key!r} exists", reason="OBJECT_EXISTS")
            self._clock += 1
            info = ObjectInfo(writer.key, len(data), float(self._clock), f"v{self._clock}", dict(metadata))
            self.objects[writer.key] = (data, info)
            self.uploads.pop(writer.token, None)
            return info

    def account(self, count: int) -> None:
        """Count written bytes and fail when the test said so; for writers only."""
        with self._lock:
            self._written += count
            if self.failure is not None and 0 <= self.fail_after_bytes < self._written:
                raise self.failure

    def _object(self, key: str) -> tuple[bytes, ObjectInfo]:
        check_key(key)
        with self._lock:
            found = self.objects.get(key)
        if found is None:
            raise NotFound(f"no object {key!r}", reason="OBJECT_NOT_FOUND")
        return found


class _MemoryWriter(ObjectWriter):
    def __init__(self, storage: MemoryStorage, key: str, token: str, if_absent: bool) -> None:
        self.key = key
        self.if_absent = if_absent
        self._storage = storage
        self._token = token
        self._data = bytearray()
        self._staged: Path | None = None
        self._done: ObjectInfo | None = None
        self._aborted = False

    @property
    def staging_path(self) -> Path | None:
        if self._storage.staging_dir is not None and self._staged is None:
            self._staged = self._storage.staging_dir / self._token
            self._staged.touch(exist_ok=True)
        return self._staged

    @property
    def token(self) -> str:
        return self._token

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._done is not None or self._aborted:
            raise FailedPrecondition("the writer was committed or aborted", reason="UPLOAD_FINISHED")
        view = memoryview(data).cast("B")
        self._storage.account(len(view))
        if self._staged is not None:
            with self._staged.open("ab") as file:
                file.write(view)
        else:
            self._data += view

    def commit(self, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        if self._done is None:
            data = self._staged.read_bytes() if self._staged is not None else bytes(self._data)
            self._done = self._storage.publish(self, data, metadata or {})
            self._drop_staged()
        return self._done

    def abort(self) -> None:
        self._aborted = True
        self._drop_staged()
        self._storage.cleanup({"upload": self._token})

    def _drop_staged(self) -> None:
        if self._staged is not None:
            self._staged.unlink(missing_ok=True)
