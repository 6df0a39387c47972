"""The small parts under the pipeline: pieces, zeros, holes, copies between files, workers."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from hypersdk.data import filecopy
from hypersdk.data.extent import ExtentKind, coalesce
from hypersdk.data.filecopy import copy_range
from hypersdk.data.pieces import PieceKind, plan
from hypersdk.data.readahead import read_ahead
from hypersdk.data.sparse import file_extents
from hypersdk.data.workers import BufferPool, in_order
from hypersdk.data.writebehind import WriteBehind
from hypersdk.data.zeros import file_runs, is_zero, runs
from hypersdk.errors import MalformedImage
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.data.disks import LAYOUTS, UNITS, MemorySource

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO


@settings(max_examples=200, deadline=None)
@given(layout=LAYOUTS, unit=UNITS, factor=st.sampled_from([1, 3, 16]), start=st.integers(0, 3))
def test_pieces_cover_the_disk_once_aligned_and_never_call_data_zero(layout, unit, factor, start):
    source = MemorySource(layout)
    piece_bytes = unit * factor if unit > 1 else 4096 * factor
    at = min(start * unit, source.size - source.size % unit)
    for piece in plan(source.extents(at), source.size, unit=unit, piece_bytes=piece_bytes):
        assert piece.offset == at
        assert piece.length > 0
        assert piece.offset % unit == 0
        assert piece.end % unit == 0 or piece.end == source.size
        kinds = {e.kind for e in source.extents(piece.offset, piece.length)}
        if piece.kind == PieceKind.ZERO:
            assert kinds == {ZERO}
        else:
            assert DATA in kinds
            assert piece.length <= piece_bytes
            assert piece.offset // piece_bytes == (piece.end - 1) // piece_bytes
        if piece.kind == PieceKind.DATA:
            assert kinds == {DATA}
        at = piece.end
    assert at == source.size


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=12), unit=st.sampled_from([1, 16, 64]),
    form=st.sampled_from([bytes, bytearray, lambda b: memoryview(bytearray(b))]),
)  # fmt: skip
def test_runs_are_zero_exactly_where_a_whole_unit_is(parts, unit, form):
    content = b"".join(b"\x07" * n if data else bytes(n) for n, data in parts)
    at = 0
    last = None
    for offset, length, holds_data in runs(form(content), len(content), unit):
        assert offset == at
        assert holds_data != last
        units = [content[i : min(i + unit, len(content))] for i in range(offset, offset + length, unit)]
        assert all(any(u) == holds_data for u in units)
        at, last = offset + length, holds_data
    assert at == len(content)


@pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_a_single_byte_at_either_end_makes_a_buffer_non_zero(length, form):
    assert is_zero(form(bytes(length)))
    for place in {0, length // 2, length - 1} if length else ():
        content = bytearray(length)
        content[place] = 1
        assert not is_zero(form(bytes(content)))
        assert is_zero(form(bytes(content)), place + 1, length - place - 1)


def test_runs_of_a_file_agree_with_runs_of_its_bytes(tmp_path):
    content = bytes(100) + b"x" + bytes(199_899) + b"y" * 70_000 + bytes(130_000)
    path = tmp_path / "file"
    path.write_bytes(b"head" + content)
    fd = os.open(path, os.O_RDONLY)
    assert list(file_runs(fd, 4, len(content))) == list(runs(content, len(content)))
    assert list(file_runs(fd, 4 + len(content), 65536)) == [(0, 65536, True)]
    os.close(fd)


@settings(max_examples=40, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=10), low=st.floats(0, 1),
    high=st.floats(0, 1.2), tail=st.integers(0, 5000),
)  # fmt: skip
def test_extents_of_a_file_cover_it_and_zero_extents_read_as_zeros(tmp_path_factory, spans, low, high, tail):
    path = tmp_path_factory.mktemp("sparse") / "file"
    with path.open("wb") as file:
        for count, data in spans:
            file.write(b"z" * (count * 4096)) if data else file.seek(count * 4096, os.SEEK_CUR)
        file.truncate(file.tell() + tail)
    content = path.read_bytes()
    start = int(len(content) * low)
    end = max(start, int(len(content) * high))
    fd = os.open(path, os.O_RDONLY)
    at = start
    for extent in file_extents(fd, start, end):
        assert extent.offset == at
        assert extent.length > 0
        if extent.kind == ZERO:
            assert extent.end <= len(content)
            assert not any(content[extent.offset : extent.end])
        at = extent.end
    assert at == end
    os.close(fd)


def test_holes_of_a_sparse_file_are_found_and_a_file_system_without_them_says_data(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 65536)
        file.truncate(4 << 20)
    fd = os.open(path, os.O_RDONLY)
    kinds = [e.kind for e in file_extents(fd, 0, 4 << 20)]
    assert kinds == [ZERO, DATA, ZERO]

    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "lseek", refuse)
    assert [tuple(e) for e in coalesce(file_extents(fd, 0, 4 << 20))] == [(0, 4 << 20, DATA)]
    os.close(fd)


@pytest.fixture
def two_files(tmp_path):
    content = bytes(range(256)) * 4096
    (tmp_path / "in").write_bytes(content)
    fds = os.open(tmp_path / "in", os.O_RDONLY), os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    yield content, *fds
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("code", [None, errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
@pytest.mark.parametrize("after", [0, 1])
def test_copying_falls_back_to_memory_where_the_kernel_refuses(two_files, monkeypatch, code, after):
    content, source, target = two_files
    real, calls = os.copy_file_range, []

    def refuse(in_fd, out_fd, count, *offsets):
        calls.append(count)
        if len(calls) > after:
            if code is None:
                return 0
            raise OSError(code, os.strerror(code))
        return real(in_fd, out_fd, min(count, 5000), *offsets)

    monkeypatch.setattr(os, "copy_file_range", refuse)
    copy_range(source, 1000, target, 77, 900_000)
    assert os.pread(target, 2_000_000, 77) == content[1000:901_000]


def test_a_full_disk_while_copying_is_not_mistaken_for_a_refusal(two_files, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        copy_range(two_files[1], 0, two_files[2], 0, 1000)


def test_copying_past_the_end_of_the_input_is_a_truncated_image(two_files):
    content, source, target = two_files
    with pytest.raises(MalformedImage) as caught:
        copy_range(source, len(content) - 10, target, 0, 11)
    assert caught.value.reason == "IMAGE_TRUNCATED"
    assert caught.value.offset == len(content)


def test_short_writes_are_continued(two_files, monkeypatch):
    content, _, target = two_files
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data)[:1000], offset))
    filecopy.write_all(target, 5, memoryview(content))
    assert os.pread(target, len(content), 5) == content


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 60), threads=st.integers(1, 4), limit=st.integers(1, 8), every=st.integers(1, 5))
def test_results_come_in_order_with_at_most_limit_tasks_taken(count, threads, limit, every):
    taken = [0]

    def tasks():
        for number in range(count):
            taken[0] += 1
            yield number

    seen = []
    for task, result in in_order(
        tasks(), lambda n: n * n, threads=threads, limit=limit, inline=lambda n: n % every == 0
    ):
        assert taken[0] - len(seen) <= limit
        assert result == (None if task % every == 0 else task * task)
        seen.append(task)
    assert seen == list(range(count))


def test_a_closed_iterator_ends_its_threads_and_skips_what_was_queued():
    before = threading.active_count()
    gate, ran = threading.Event(), []

    def run(number):
        ran.append(number)
        if number:
            gate.wait(20)
        return number

    stream = in_order(range(100), run, threads=2, limit=50)
    assert next(stream) == (0, 0)
    gate.set()
    stream.close()
    assert threading.active_count() == before
    assert len(ran) < 100


def test_no_thread_starts_for_tasks_that_need_none():
    before = threading.active_count()
    for _ in in_order(range(10), lambda n: n, threads=4, limit=4, inline=lambda _: True):
        assert threading.active_count() == before


def test_a_buffer_that_was_given_back_is_taken_again():
    pool = BufferPool(10)
    first = pool.take()
    assert pool.take() is not first
    pool.give(first)
    assert pool.take() is first


@settings(max_examples=30, deadline=None)
@given(layout=LAYOUTS, low=st.floats(0, 1), high=st.floats(0, 1))
def test_reading_ahead_yields_the_bytes_of_the_range_in_order(layout, low, high):
    source = MemorySource(layout)
    start = int(source.size * min(low, high))
    end = int(source.size * max(low, high))
    got = b"".join(bytes(length) if data is None else bytes(data) for _, length, data in read_ahead(source, start, end))
    assert got == source.content[start:end]


def test_writing_behind_asks_the_kernel_for_the_file_and_ends_with_the_context(tmp_path, monkeypatch):
    import ctypes
    import types

    asked, called = [], threading.Event()

    class Call:
        def __call__(self, fd, offset, length, flags):
            asked.append((fd, offset, length, flags))
            called.set()
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace(sync_file_range=Call()))
    before = threading.active_count()
    with WriteBehind(77):
        assert called.wait(20)
    assert set(asked) == {(77, 0, 0, 2)}
    assert threading.active_count() == before


def test_writing_behind_does_nothing_where_the_c_library_cannot(monkeypatch):
    import ctypes

    looked = threading.Event()

    def library(_):
        looked.set()
        return object()

    monkeypatch.setattr(ctypes, "CDLL", library)
    with WriteBehind(77):
        assert looked.wait(20)
