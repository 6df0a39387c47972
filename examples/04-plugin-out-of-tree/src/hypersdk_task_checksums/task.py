"""ChecksumsTask: reads every object below a prefix once, and writes SHA256SUMS beside them or compares with it.

The checkpoint has the digest of every object that was read, with its etag: an attempt that dies is gone on with, and an
object that changed meanwhile is read again. For up to some 100,000 objects (a checkpoint has 16 MiB at most).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from hypersdk.errors import Aborted, DataLoss, NotFound, OutOfRange
from hypersdk.plugin import ObjectInfo, Progress, Storage, Task, TaskContext

from hypersdk_task_checksums import sums

_PIECE = 4 << 20
_MAX_SUMS = 64 << 20
_NAMED = 5


class ChecksumsTask(Task):
    """Stateless."""

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        storage = context.storage(str(context.spec["storage"]))
        prefix = str(context.spec.get("prefix", ""))
        self._drop_earlier(context, storage)
        objects = [info for info in _all(storage, prefix, context) if info.key != prefix + sums.NAME]
        total = sum(info.size_bytes for info in objects)
        known: dict[str, list[str]] = dict((context.checkpoint or {}).get("known", {}))
        digests: dict[str, str] = {}
        done = 0
        for info in objects:
            etag, digest = known.get(info.key, ["", ""])
            if not digest or etag != info.etag:
                digest = _digest(storage, info, context, done, total)
                known[info.key] = [info.etag, digest]
                context.save_checkpoint({"known": known})
            digests[info.key.removeprefix(prefix)] = digest
            done += info.size_bytes
            context.progress(Progress("reading", done, total, message=info.key))
        if context.spec.get("verify", False):
            self._compare(storage, prefix, digests)
        else:
            self._publish(context, storage, prefix + sums.NAME, sums.encode(digests))
        return {"objects": len(objects), "bytes": total, "sums": prefix + sums.NAME}

    def plan(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        key = f"{spec.get('prefix', '')}{sums.NAME}"
        return {"reads": spec.get("storage", ""), ("compares_with" if spec.get("verify") else "writes"): key}

    def _publish(self, context: TaskContext, storage: Storage, key: str, data: bytes) -> None:
        writer = storage.open_writer(key)
        connection = str(context.spec["storage"])
        record = {"connection": connection, "key": key, "upload": writer.token}
        if writer.token:  # told before anything of it exists
            context.acquired(writer.token, context.component(connection), record)
        try:
            writer.write(data)
            writer.commit()
        except BaseException:
            writer.abort()
            raise
        finally:
            if writer.token:
                context.released(writer.token)

    def _drop_earlier(self, context: TaskContext, storage: Storage) -> None:
        """The upload of an attempt that died in the middle of it; the file is small, so it is written anew."""
        for token, record in context.outstanding().items():
            storage.cleanup(record)
            context.released(token)

    def _compare(self, storage: Storage, prefix: str, found: Mapping[str, str]) -> None:
        info = storage.stat(prefix + sums.NAME)
        if info.size_bytes > _MAX_SUMS:
            raise DataLoss(f"{info.key} has {info.size_bytes} bytes, too many to be one", reason="SUMS_MALFORMED")
        wanted = sums.decode(storage.read_range(info.key, 0, info.size_bytes))
        wrong = sorted(name for name in wanted if name in found and found[name] != wanted[name])
        missing = sorted(wanted.keys() - found.keys())
        if wrong or missing:
            raise DataLoss(
                f"{len(wrong)} objects have other content than {info.key} says ({_some(wrong)}), "
                f"{len(missing)} are not there ({_some(missing)})",
                reason="CHECKSUM_MISMATCH",
                metadata={"wrong": str(len(wrong)), "missing": str(len(missing))},
            )


def _all(storage: Storage, prefix: str, context: TaskContext) -> Iterator[ObjectInfo]:
    token = ""
    while True:
        context.check()
        page = storage.list(prefix, 1000, token)
        yield from page.items
        token = page.next_token
        if not token:
            return


def _digest(storage: Storage, info: ObjectInfo, context: TaskContext, done: int, total: int) -> str:
    digest = hashlib.sha256()
    try:
        for offset in range(0, info.size_bytes, _PIECE):
            context.check()
            data = storage.read_range(info.key, offset, min(_PIECE, info.size_bytes - offset))
            digest.update(data)
            context.throttle(len(data))
            context.progress(Progress("reading", done + offset + len(data), total, message=info.key))
        same = storage.stat(info.key).etag == info.etag
    except (NotFound, OutOfRange):  # it is gone, or shorter than it was
        same = False
    if same:
        return digest.hexdigest()
    raise Aborted(
        f"object {info.key!r} was written to while it was read; run it again", reason="OBJECT_CHANGED", retryable=True
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:_NAMED])
    return (shown + (", …" if len(names) > _NAMED else "")) or "none"
