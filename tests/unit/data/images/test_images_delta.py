"""DeltaSink against a model: what is left out is equal to the base, and what is handed on makes it the source."""

from __future__ import annotations

from typing import Any

from hypersdk.data.extent import ExtentKind
from hypersdk.data.images.delta import DeltaSink
from hypersdk.data.pipeline import copy
from hypersdk.data.sink import BlockSink, Buffer
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.disks import MemorySource

UNIT = 512
PART = st.tuples(st.integers(1, 5 * UNIT), st.sampled_from(ExtentKind), st.integers(0, 3))


class Overlay(BlockSink):
    """Starts as the base; counts what it is told."""

    def __init__(self, size: int, base: bytes, *, encodes: bool) -> None:
        self.encodes = encodes
        self.content = bytearray(base[: -(-size // UNIT) * UNIT].ljust(-(-size // UNIT) * UNIT, b"\0"))
        self.told = 0
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return UNIT

    def write(self, offset: int, data: Buffer) -> None:
        assert offset % UNIT == 0
        length = len(data)
        self.told += length
        self.content[offset : offset + -(-length // UNIT) * UNIT] = bytes(data).ljust(-(-length // UNIT) * UNIT, b"\0")

    def zero(self, offset: int, length: int) -> None:
        self.write(offset, bytes(length))

    def encode(self, offset: int, data: Buffer) -> object:
        return offset, bytes(data)

    def write_encoded(self, offset: int, encoded: Any) -> None:
        assert encoded[0] == offset
        self.write(*encoded)

    def finish(self) -> dict[str, Any]:
        return {}

    def abort(self) -> None: ...


@given(st.lists(PART, max_size=6), st.lists(PART, max_size=6), st.booleans())
def test_an_overlay_becomes_the_source_and_is_told_only_of_units_that_differ(disk, base, encodes) -> None:
    source, below = MemorySource(disk), MemorySource(base)
    sink = Overlay(source.size, below.content, encodes=encodes)
    copy(source, DeltaSink(sink, below))
    padded = len(sink.content)
    wanted, there = source.content.ljust(padded, b"\0"), below.content[:padded].ljust(padded, b"\0")
    assert sink.content == wanted
    units = [wanted[at : at + UNIT] != there[at : at + UNIT] for at in range(0, padded, UNIT)]
    assert sum(units) * UNIT - UNIT < sink.told + (padded - source.size) <= sum(units) * UNIT + UNIT
