"""compare finds the first differing byte, and reads no more than it must."""

from __future__ import annotations

import itertools

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.images import Difference, compare
from hypersdk.data.pipeline import CopyHooks
from hypersdk.errors import Cancelled, DataLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.data.disks import LAYOUTS, MemorySource

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO
MIB = 1 << 20


def same_content(content: bytes, cuts: list[int]) -> MemorySource:
    """`content` under another allocation: ZERO extents only where it is zero."""
    source = MemorySource([(len(content), DATA, 1)] if content else [])
    source.content = content
    edges = sorted({0, len(content), *(c % (len(content) + 1) for c in cuts)})
    source.parts = [
        source.parts[0]._replace(offset=a, length=b - a, kind=DATA if any(content[a:b]) else ZERO)
        for a, b in itertools.pairwise(edges)
    ]
    return source


CUTS = st.lists(st.integers(0, 1 << 23), max_size=6)


@settings(max_examples=50, deadline=None)
@given(layout=LAYOUTS, cuts=CUTS, extra=st.sampled_from([0, 1, 5000]))
def test_one_content_in_two_allocations_is_equal_even_with_zeros_behind_it(layout, cuts, extra):
    a = MemorySource(layout)
    b = same_content(a.content + bytes(extra), cuts)
    assert compare(a, b) is None
    assert compare(b, a) is None


@settings(max_examples=80, deadline=None)
@given(layout=LAYOUTS.filter(bool), cuts=CUTS, places=st.lists(st.integers(0, 1 << 23), min_size=1, max_size=3))
def test_the_first_differing_byte_is_found_exactly(layout, cuts, places):
    a = MemorySource(layout)
    content = bytearray(a.content)
    for place in {p % len(content) for p in places}:
        content[place] ^= 0x55
    first = min(p % len(content) for p in places)
    b = same_content(bytes(content), cuts)
    assert compare(a, b) == Difference(first)
    assert compare(b, a, threads=1) == Difference(first)


def test_a_byte_behind_the_end_of_the_shorter_disk_is_a_difference_there():
    a = MemorySource([(1000, DATA, 3)])
    b = same_content(a.content + bytes(500) + b"\x01" + bytes(10), [])
    assert compare(a, b) == compare(b, a) == Difference(1500)


def test_strict_compares_sizes_and_allocation_too():
    a = MemorySource([(MIB, DATA, 3), (MIB, ZERO, 0)])
    assert compare(a, same_content(a.content, [MIB]), strict=True) is None
    assert compare(a, same_content(a.content, []), strict=True) == Difference(MIB, "allocation")
    assert compare(a, MemorySource([(MIB, DATA, 3)]), strict=True) == Difference(MIB, "size")


def test_what_is_zero_on_both_sides_is_not_read():
    a, b = (MemorySource([(50 * MIB, ZERO, 0), (MIB, DATA, 1), (50 * MIB, ZERO, 0)]) for _ in range(2))
    assert compare(a, b) is None
    assert a.reads == b.reads == 1


def test_progress_ends_at_the_size_and_check_stops_it():
    a, b = (MemorySource([(5 * MIB, DATA, 1)]) for _ in range(2))
    told = []
    compare(a, b, hooks=CopyHooks(progress=told.append))
    assert told[-1].offset == told[-1].bytes_total == 5 * MIB
    assert told[-1].bytes_read == 10 * MIB

    def check():
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        compare(a, b, hooks=CopyHooks(check=check))


def test_a_source_that_cannot_be_read_raises_and_is_not_called_different():
    def on_read(offset, length):
        raise DataLoss("bad sector")

    with pytest.raises(DataLoss, match="bad sector"):
        compare(MemorySource([(MIB, DATA, 1)], on_read=on_read), MemorySource([(MIB, DATA, 1)]))
