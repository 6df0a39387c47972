"""Uploads: writers whose unfinished objects are on the runner's record, so that none is ever left behind.

Every writer is filed before it makes anything, and struck off when its object is committed or dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypersdk.errors import HyperError, NotFound
from hypersdk.plugin import ObjectInfo, ObjectWriter, Storage, TaskContext
from hypersdk.plugin.storage import check_key

_STREAM_BYTES = 4 << 20


@dataclass(slots=True)
class Upload:
    """An open writer and the name of its record."""

    key: str
    writer: ObjectWriter
    resource_id: str


class Uploads:
    """All uploads of one job to one storage connection."""

    def __init__(self, context: TaskContext, connection: str) -> None:
        self._context = context
        self._connection = connection
        self._storage: Storage = context.storage(connection)
        self._component = context.component(connection)

    def begin(self, key: str) -> Upload:
        check_key(key)
        writer = self._storage.open_writer(key)
        upload = Upload(key, writer, f"upload:{writer.token or key}")
        record = {"connection": self._connection, "key": key, "upload": writer.token}
        self._context.acquired(upload.resource_id, self._component, record)
        return upload

    def go_on(self, key: str, token: str) -> Upload | None:
        """The upload of an earlier attempt; None when it has gone."""
        try:
            writer = self._storage.open_writer(key, resume=token)
        except NotFound:
            return None
        return Upload(key, writer, f"upload:{token}")

    def commit(self, upload: Upload) -> ObjectInfo:
        info = upload.writer.commit()
        self._context.released(upload.resource_id)
        return info

    def drop(self, upload: Upload) -> None:
        upload.writer.abort()
        self._context.released(upload.resource_id)

    def drop_earlier(self, *, but: Collection[str] = ()) -> None:
        """Remove what dead attempts left, but the uploads with the tokens `but`."""
        for resource_id, record in self._context.outstanding().items():
            if resource_id.startswith("upload:") and record.get("upload") not in but:
                self._drop_record(resource_id, record)

    def drop_token(self, token: str) -> None:
        """Remove the one upload of a dead attempt, if there is such."""
        for resource_id, record in self._context.outstanding().items():
            if resource_id.startswith("upload:") and record.get("upload") == token:
                self._drop_record(resource_id, record)

    def _drop_record(self, resource_id: str, record: Mapping[str, Any]) -> None:
        self._storage.cleanup(record)
        self._context.released(resource_id)

    @contextmanager
    def guarded(self, upload: Upload) -> Iterator[None]:
        """On an error that another attempt may get over, the upload stays for it; on any other it is
        dropped. A kill leaves it, and the record of it."""
        try:
            yield
        except Exception as exc:
            if not (isinstance(exc, HyperError) and exc.retryable):
                self.drop(upload)
            raise

    def stream(self, upload: Upload, path: Path) -> None:
        """Write the file `path` into the upload from its beginning, paced and interruptible."""
        buffer = memoryview(bytearray(_STREAM_BYTES))
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                self._context.check()
                upload.writer.write(buffer[:count])
                self._context.throttle(count)
