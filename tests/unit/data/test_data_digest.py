"""The content digest equals its definition, whatever the order of the parts, and survives a checkpoint."""

from __future__ import annotations

import hashlib
import random
import threading

import pytest
from hypersdk.data.digest import CHUNK_BYTES, ContentDigest, plain_sha256
from hypersdk.data.extent import ExtentKind
from hypersdk.errors import FailedPrecondition, InvalidArgument, OutOfRange
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.data.disks import LAYOUTS, MemorySource

PATTERN = bytes(random.Random(1).randbytes(1 << 16))


def by_definition(content: bytes) -> str:
    leaves = (hashlib.sha256(content[at : at + CHUNK_BYTES]).digest() for at in range(0, len(content), CHUNK_BYTES))
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def content_of(parts: list[tuple[int, bool]]) -> bytes:
    return b"".join((PATTERN * (n // len(PATTERN) + 1))[:n] if data else bytes(n) for n, data in parts)


PARTS = st.lists(
    st.tuples(st.one_of(st.integers(1, 200_000), st.integers(1, 3).map(lambda n: n * CHUNK_BYTES)), st.booleans()),
    min_size=0, max_size=8,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(parts=PARTS, seed=st.integers(0, 1000), step=st.sampled_from([65536, 1 << 20, CHUNK_BYTES, 9_999_999]))
def test_parts_in_any_order_give_the_digest_of_the_definition(parts, seed, step):
    content = content_of(parts)
    told = []
    at = 0
    for length, data in parts:
        told += [(start, min(step, at + length - start), data) for start in range(at, at + length, step)]
        at += length
    random.Random(seed).shuffle(told)
    digest = ContentDigest(len(content))
    for offset, length, data in told:
        if data:
            digest.update(offset, content[offset : offset + length])
        else:
            digest.zero(offset, length)
    assert digest.hexdigest() == by_definition(content)


@settings(max_examples=40, deadline=None)
@given(parts=PARTS, stop=st.floats(0, 1), step=st.sampled_from([65536, 1 << 20, 5_000_001]))
def test_a_digest_resumed_from_its_state_equals_one_that_ran_through(parts, stop, step):
    content = content_of(parts)
    until = int(len(content) * stop)
    first = ContentDigest(len(content))
    for at in range(0, until, step):
        first.update(at, content[at : min(at + step, until)])
    state = first.state()
    second = ContentDigest(len(content), state)
    assert second.state() == state
    reread = 0
    for offset, length in second.missing(until):
        second.update(offset, content[offset : offset + length])
        reread += length
    assert reread < CHUNK_BYTES
    if until < len(content):
        second.update(until, content[until:])
    assert second.hexdigest() == by_definition(content)


def test_threads_that_bring_neighbouring_parts_agree_with_the_definition():
    content = content_of([(3 * CHUNK_BYTES + 77, True)])
    step = 100_000
    offsets = list(range(0, len(content), step))
    random.Random(3).shuffle(offsets)
    digest = ContentDigest(len(content))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if not offsets:
                    return
                at = offsets.pop()
            digest.update(at, memoryview(content)[at : at + step])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digest.hexdigest() == by_definition(content)


def test_zeros_told_as_zeros_or_as_data_or_in_halves_are_the_same_disk():
    size = 2 * CHUNK_BYTES + 1000
    halves = ContentDigest(size)
    halves.zero(0, CHUNK_BYTES // 2)
    halves.zero(CHUNK_BYTES // 2, size - CHUNK_BYTES // 2)
    whole = ContentDigest(size)
    whole.zero(0, size)
    data = ContentDigest(size)
    data.update(0, bytes(size))
    assert halves.hexdigest() == whole.hexdigest() == data.hexdigest() == by_definition(bytes(size))


def test_sixteen_tebibytes_of_zeros_take_a_state_of_a_few_bytes():
    digest = ContentDigest(16 << 40)
    digest.zero(0, 16 << 40)
    assert len(digest.state()) < 32
    assert len(digest.hexdigest()) == 64


def test_a_finished_data_chunk_costs_33_bytes_of_state():
    def state_bytes(chunks: int) -> int:
        digest = ContentDigest(64 * CHUNK_BYTES)
        digest.update(0, PATTERN * (chunks * CHUNK_BYTES // len(PATTERN)))
        return len(digest.state())

    assert state_bytes(3) - state_bytes(2) == 33


def test_an_empty_disk_has_the_digest_of_nothing():
    assert ContentDigest(0).hexdigest() == hashlib.sha256(b"").hexdigest()


def test_a_digest_that_was_not_told_everything_says_what_is_missing():
    digest = ContentDigest(3 * CHUNK_BYTES)
    digest.zero(0, CHUNK_BYTES)
    digest.zero(2 * CHUNK_BYTES, CHUNK_BYTES)
    assert list(digest.missing(3 * CHUNK_BYTES)) == [(CHUNK_BYTES, CHUNK_BYTES)]
    with pytest.raises(FailedPrecondition, match=f"{CHUNK_BYTES} bytes at offset {CHUNK_BYTES}") as caught:
        digest.hexdigest()
    assert caught.value.reason == "DIGEST_INCOMPLETE"


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 101), (100, 1), (50, 51)])
def test_what_lies_outside_the_disk_is_refused(offset, length):
    with pytest.raises(OutOfRange):
        ContentDigest(100).update(offset, bytes(length))
    with pytest.raises(OutOfRange):
        ContentDigest(100).zero(offset, length)


@settings(max_examples=200, deadline=None)
@given(damage=st.binary(max_size=80), cut=st.integers(0, 80), prefix=st.booleans())
def test_a_damaged_state_is_refused_or_is_a_state(damage, cut, prefix):
    good = ContentDigest(10 * CHUNK_BYTES)
    good.update(0, PATTERN * (CHUNK_BYTES // len(PATTERN)))
    good.zero(CHUNK_BYTES, 4 * CHUNK_BYTES)
    state = good.state()[:cut] + damage if prefix else damage
    try:
        digest = ContentDigest(10 * CHUNK_BYTES, state)
    except InvalidArgument as exc:
        reason = exc.reason
    else:
        reason = ""
        assert ContentDigest(10 * CHUNK_BYTES, digest.state()).state() == digest.state()
    assert reason in {"", "DIGEST_STATE_INVALID"}


def test_the_state_of_a_disk_of_another_size_is_refused():
    with pytest.raises(InvalidArgument, match="of a disk of 100 bytes"):
        ContentDigest(101, ContentDigest(100).state())


@settings(max_examples=20, deadline=None)
@given(layout=LAYOUTS)
def test_the_plain_digest_is_what_sha256sum_says_of_the_raw_image(layout):
    source = MemorySource(layout)
    told = []
    assert plain_sha256(source, progress=lambda done, total: told.append((done, total))) == hashlib.sha256(
        source.content
    ).hexdigest()
    assert told[-1] == (source.size, source.size)


def test_the_plain_digest_stops_when_check_raises():
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain_sha256(MemorySource([(1 << 20, ExtentKind.ZERO, 0)]), check=check)
