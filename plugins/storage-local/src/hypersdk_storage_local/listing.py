"""Listing in key order, a page at a time, in memory bounded by the page.

Keys are ordered by code point, which is the order of their UTF-8 bytes. A directory `a` therefore sorts as
`a/`: after the file `a.b`, before `a0`. Each directory is scanned for its next `batch` smallest entries
only, so one of a million files costs time and not memory; no descriptor is held while a page is built up,
so depth costs none either.

What is not listed: links, devices, sockets and FIFOs, names that are no valid keys, the unfinished objects.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from hypersdk.errors import FieldViolation, InvalidArgument, NotFound, PermissionDenied
from hypersdk.plugin import ObjectInfo
from hypersdk.plugin.storage import check_key

from hypersdk_storage_local.tree import Tree, is_missing, os_errors

UPLOADS = ".hypersdk-uploads"
_TOKEN_MARK = "1:"  # noqa: S105  the version of the page token, no secret


class _Entry(NamedTuple):
    sort_name: str
    is_directory: bool


def info_of(key: str, status: os.stat_result) -> ObjectInfo:
    """The object that a file's status describes. A file that is replaced or rewritten gets another etag."""
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, status.st_mtime_ns / 1e9, etag)


def make_page_token(last_key: str) -> str:
    return base64.urlsafe_b64encode((_TOKEN_MARK + last_key).encode()).decode()


def parse_page_token(token: str, prefix: str) -> str:
    """The key after which the page starts; "" for the first page. Raises InvalidArgument
    (PAGE_TOKEN_INVALID)."""
    if not token:
        return ""
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
        key = check_key(text.removeprefix(_TOKEN_MARK))
    except (ValueError, binascii.Error, InvalidArgument):
        text, key = "", ""
    if not text.startswith(_TOKEN_MARK) or not key.startswith(prefix):
        raise InvalidArgument(
            "the page token is not one of this list; start again without it",
            reason="PAGE_TOKEN_INVALID",
            violations=(FieldViolation("page_token", "must come from the answer to the same list request"),),
        )
    return key


def walk(tree: Tree, prefix: str, after: str, batch: int) -> Iterator[ObjectInfo]:
    """Objects whose key starts with `prefix` and is greater than `after`, in order."""
    folder = prefix.rpartition("/")[0]
    if folder and not _is_key(folder):
        return
    yield from _walk(tree, f"{folder}/" if folder else "", prefix, after, batch)


def _walk(tree: Tree, folder: str, prefix: str, after: str, batch: int) -> Iterator[ObjectInfo]:
    seen = ""
    while True:
        entries = _scan(tree, folder, prefix, after, seen, batch)
        for entry, status in entries:
            key = folder + entry.sort_name
            if entry.is_directory:
                yield from _walk(tree, key, prefix, after, batch)
            elif status is not None:
                yield info_of(key, status)
        if len(entries) < batch:
            return
        seen = entries[-1][0].sort_name


def _scan(
    tree: Tree, folder: str, prefix: str, after: str, seen: str, batch: int
) -> list[tuple[_Entry, os.stat_result | None]]:
    """The next `batch` entries of one directory after the sort name `seen`, files with their status. A
    directory that goes away meanwhile has no entries."""
    try:
        with (
            os_errors("listing objects"),
            tree.directory(folder.split("/")[:-1]) as fd,
            os.scandir(fd) as found,
        ):
            wanted = (
                entry for raw in found if (entry := _judge(raw, folder, prefix, after)) and entry.sort_name > seen
            )
            smallest = heapq.nsmallest(batch, wanted)
            return [(entry, None if entry.is_directory else _status(fd, entry.sort_name)) for entry in smallest]
    except NotFound:
        return []
    except PermissionDenied as exc:
        if exc.reason == "SYMBOLIC_LINK_REFUSED":
            return []
        raise


def _judge(raw: os.DirEntry[str], folder: str, prefix: str, after: str) -> _Entry | None:
    """The entry if something under it can belong to the list."""
    is_directory = raw.is_dir(follow_symlinks=False)
    if not is_directory and not raw.is_file(follow_symlinks=False):
        return None
    if (not folder and raw.name == UPLOADS) or not _is_key(folder + raw.name):
        return None
    sort_name = f"{raw.name}/" if is_directory else raw.name
    key = folder + sort_name
    if is_directory:
        fits = key.startswith(prefix) or prefix.startswith(key)
        fresh = key > after or after.startswith(key)
    else:
        fits, fresh = key.startswith(prefix), key > after
    return _Entry(sort_name, is_directory) if fits and fresh else None


def _status(fd: int, name: str) -> os.stat_result | None:
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError as exc:
        if is_missing(exc):
            return None
        raise
    return status if stat.S_ISREG(status.st_mode) else None


def _is_key(text: str) -> bool:
    try:
        check_key(text)
    except InvalidArgument:
        return False
    return True
