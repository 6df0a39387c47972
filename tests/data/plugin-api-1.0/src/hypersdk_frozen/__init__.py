"""A storage and a task of API 1.0. Frozen: see README.md."""

import os
from pathlib import Path
from urllib.parse import quote, unquote

from hypersdk.errors import AlreadyExists, InvalidArgument, NotFound, OutOfRange
from hypersdk.plugin import Health, ObjectInfo, ObjectWriter, Page, Progress, Storage, Task
from hypersdk.plugin.storage import check_key


class FolderStorage(Storage):
    def configure(self, config, secrets):
        self._folder = Path(config["path"])
        self._has_password = bool(secrets.get("password"))

    def health(self):
        return Health(self._folder.is_dir(), "" if self._folder.is_dir() else "no such folder", 0.0)

    def open_writer(self, key, *, if_absent=False, resume=""):
        if resume:
            raise NotFound("uploads are not resumed", reason="UPLOAD_GONE")
        return _Writer(self._path(key), key, if_absent)

    def read_range(self, key, offset, length):
        data = self._bytes(key)
        if offset < 0 or length < 0 or offset + length > len(data):
            raise OutOfRange(f"{key!r} has {len(data)} bytes", reason="RANGE_PAST_END")
        return data[offset : offset + length]

    def stat(self, key):
        self._bytes(key)
        return _info(key, self._path(key))

    def list(self, prefix, page_size, page_token):
        if page_token and not page_token.startswith("k:"):
            raise InvalidArgument("not a token of this list", reason="PAGE_TOKEN_INVALID")
        keys = sorted(unquote(name) for name in os.listdir(self._folder) if not name.startswith("."))
        keys = [key for key in keys if key.startswith(prefix) and key > page_token.removeprefix("k:")]
        page = [_info(key, self._path(key)) for key in keys[:page_size]]
        return Page(page, f"k:{page[-1].key}" if len(keys) > page_size else "")

    def delete(self, key):
        self._path(key).unlink(missing_ok=True)

    def _path(self, key):
        return self._folder / quote(check_key(key), safe="")

    def _bytes(self, key):
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as exc:
            raise NotFound(f"no object {key!r}", reason="OBJECT_NOT_FOUND") from exc


class _Writer(ObjectWriter):
    def __init__(self, path, key, if_absent):
        self._path, self._key, self._if_absent = path, key, if_absent
        self._data = b""

    def write(self, data):
        self._data += bytes(data)

    def commit(self, metadata=None):
        if self._if_absent and self._path.exists():
            raise AlreadyExists(f"object {self._key!r} exists", reason="OBJECT_EXISTS")
        staged = self._path.with_name("." + self._path.name)
        staged.write_bytes(self._data)
        staged.replace(self._path)
        return _info(self._key, self._path)

    def abort(self):
        self._data = b""


def _info(key, path):
    found = path.stat()
    return ObjectInfo(key, found.st_size, found.st_mtime, f"{found.st_mtime_ns:x}-{found.st_size:x}")


class CopyTask(Task):
    def run(self, context):
        source, target = context.storage(context.spec["source"]), context.storage(context.spec["target"])
        done = list((context.checkpoint or {}).get("done", []))
        page = source.list(context.spec.get("prefix", ""), 1000, "")
        for info in page.items:
            context.check()
            if info.key in done:
                continue
            writer = target.open_writer(info.key)
            writer.write(source.read_range(info.key, 0, info.size_bytes))
            writer.commit()
            context.throttle(info.size_bytes)
            done.append(info.key)
            context.save_checkpoint({"done": done})
            context.progress(Progress("copying", len(done), len(page.items), message=info.key))
            context.log("object_copied", key=info.key)
        return {"copied": done}

    def plan(self, spec):
        return {"from": spec["source"], "to": spec["target"]}
