"""What the method of a stream may yield besides messages: a page of them, written already, that takes its turn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from google.protobuf.message import Message

S = TypeVar("S")


class Page(tuple[bytes, ...]):
    """Messages in their wire form, in order. Streams with much to say at once yield pages, because the server lets
    only a few write at a time and so goes on taking calls; see server.streams."""

    __slots__ = ()


Part = Message | Page


class Written(Generic[S]):
    """The newest `most` messages in their wire form, as `write` makes them, kept for the other streams that send the
    same: a thousand watchers of one change write it once. The key says all that the message depends on."""

    def __init__(self, write: Callable[[S], bytes], most: int) -> None:
        self._write = write
        self._most = most
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def of(self, key: Hashable, source: S) -> bytes:
        data = self._kept.get(key)
        if data is None:
            data = self._kept[key] = self._write(source)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return data
