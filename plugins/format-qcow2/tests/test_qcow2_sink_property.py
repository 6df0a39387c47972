"""Any extents, written with any interruptions, come back and check clean."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypersdk.data.imagefile import ImageFile
from hypersdk_format_qcow2 import Qcow2Format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORMAT = Qcow2Format()
LAYOUTS = [
    {"cluster_size": "512"}, {"cluster_size": "512", "compress": "on", "refcount_bits": "4"}, {"cluster_size": "4k"},
    {"cluster_size": "4k", "compress": "on"}, {"cluster_size": "16k", "extended_l2": "on", "compress": "on"},
    {"cluster_size": "4k", "compress": "on", "compression_type": "zstd", "refcount_bits": "64"},
]  # fmt: skip

STEPS = st.lists(
    st.tuples(
        st.integers(0, 300),  # clusters left out before
        st.integers(1, 60),  # clusters written
        st.sampled_from(["noise", "text", "zeros"]),
        st.sampled_from(["go on", "checkpoint", "die"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layout=st.sampled_from(LAYOUTS), steps=STEPS, tail=st.integers(0, 511), seed=st.integers(0, 99))
def test_any_extents_with_any_interruptions_come_back_and_check_clean(layout, steps, tail, seed) -> None:
    pick = random.Random(seed)
    cluster = {"512": 512, "4k": 4096, "16k": 16384}[layout["cluster_size"]]
    wanted: dict[int, bytes] = {}
    at = 0
    plan = []
    for gap, count, kind, then in steps:
        at += gap * cluster
        length = count * cluster
        data = {"noise": pick.randbytes, "text": lambda n: (b"text %d " % seed * n)[:n], "zeros": bytes}[kind](length)
        plan.append((at, data, then))
        wanted[at] = data
        at += length
    size = at + tail
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.qcow2"
        file = ImageFile.create(path)
        sink = FORMAT.create(file, size, layout)
        state, undone = None, []
        for offset, data, then in plan:
            undone.append((offset, data))
            _write(sink, offset, data)
            if then == "checkpoint":
                state, undone = sink.checkpoint(), []
            if then == "die" and state is not None:
                file.close()
                file = ImageFile.create(path, resume=True)
                sink = FORMAT.create(file, size, layout, state)
                for piece in undone:
                    _write(sink, *piece)
        sink.finish()
        file.close()
        with ImageFile.open(path) as file:
            report = FORMAT.check(file)
            assert (report.corruptions, report.leaks) == (0, 0), report.messages
        with FORMAT.open(ImageFile.open(path)) as source:
            buffer = bytearray(source.size)
            source.readinto(0, memoryview(buffer))
    for offset, data in wanted.items():
        assert buffer[offset : offset + len(data)] == data
        buffer[offset : offset + len(data)] = bytes(len(data))
    assert not any(buffer)


def _write(sink, offset: int, data: bytes) -> None:
    if sink.encodes:
        sink.write_encoded(offset, sink.encode(offset, data))
    else:
        sink.write(offset, data)
