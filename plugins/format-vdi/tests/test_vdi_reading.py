"""Maps in any order, discarded blocks, extra bytes, and differencing disks over parents that are proved by UUID."""

from __future__ import annotations

import os
import random
from itertools import pairwise

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, InvalidArgument, MalformedImage, NotFound, PermissionDenied, Unsupported
from hypersdk_format_vdi import VdiFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BLOCK = 1 << 16
FREE, ZERO = 0xFFFFFFFF, 0xFFFFFFFE
BLOCKS = [random.Random(n).randbytes(BLOCK) for n in range(6)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_map_in_any_order_reads_in_the_disks(tmp_path, vdi, read, data):
    order = data.draw(st.permutations(range(6)))
    numbers = [data.draw(st.sampled_from([FREE, ZERO, n, n])) for n in order]
    kind = data.draw(st.sampled_from([1, 2]))
    extra = data.draw(st.sampled_from([0, 512, 4096]))
    (tmp_path / "a.vdi").write_bytes(vdi(6 * BLOCK - 512, numbers, BLOCKS, kind=kind, extra=extra))
    want = b"".join(bytes(BLOCK) if n >= ZERO else BLOCKS[n] for n in numbers)[:-512]
    assert read(tmp_path / "a.vdi") == want


def test_neighbours_in_disk_and_file_are_one_range(tmp_path, vdi):
    (tmp_path / "a.vdi").write_bytes(vdi(6 * BLOCK, [3, 4, 5, 0, 1, 2], BLOCKS, kind=2))
    with VdiFormat().open(ImageFile.open(tmp_path / "a.vdi")) as source:
        ranges = list(source.file_ranges(100, 6 * BLOCK - 100))
    assert [r.length for r in ranges] == [3 * BLOCK - 100, 3 * BLOCK]
    assert all(a.fd == b.fd for a, b in pairwise(ranges))


@pytest.fixture
def family(tmp_path, vdi):
    """base.vdi ← mid.vdi ← top.vdi; the content seen from the top."""
    (tmp_path / "base.vdi").write_bytes(vdi(4 * BLOCK, [0, 1, FREE, 2], BLOCKS[:3], uuid=10, modification=11))
    (tmp_path / "mid.vdi").write_bytes(
        vdi(4 * BLOCK, [ZERO, FREE, 0, FREE], BLOCKS[3:4], kind=4, uuid=20, modification=21, parent=10,
            parent_modification=11)
    )  # fmt: skip
    (tmp_path / "top.vdi").write_bytes(
        vdi(5 * BLOCK, [FREE, 0, FREE, FREE, FREE], BLOCKS[4:5], kind=4, uuid=30, parent=20, parent_modification=21)
    )
    return bytes(BLOCK) + BLOCKS[4] + BLOCKS[3] + BLOCKS[2] + bytes(BLOCK)


def test_a_chain_reads_through_parents_that_are_named(tmp_path, family, read):
    assert read(tmp_path / "top.vdi", chain="on", backing_file="mid.vdi:base.vdi") == family


def test_parents_with_virtualboxs_name_of_snapshots_are_found(tmp_path, family, read):
    os.rename(tmp_path / "mid.vdi", tmp_path / "{00000000-0000-0000-0000-000000000014}.vdi")
    os.rename(tmp_path / "base.vdi", tmp_path / "{00000000-0000-0000-0000-00000000000a}.vdi")
    assert read(tmp_path / "top.vdi", chain="on") == family


def test_a_differencing_disk_is_refused_without_its_parent(tmp_path, family):
    with pytest.raises(FailedPrecondition, match="backing_file") as caught:
        VdiFormat().open(ImageFile.open(tmp_path / "top.vdi"))
    assert caught.value.reason == "IMAGE_HAS_PARENT"
    for options in ({"chain": "on"}, {"chain": "on", "backing_file": "mid.vdi"}):
        with pytest.raises(FailedPrecondition, match="backing_file") as caught:
            VdiFormat().open(ImageFile.open(tmp_path / "top.vdi"), options)
        assert caught.value.reason == "IMAGE_HAS_PARENT"
    with VdiFormat().open(ImageFile.open(tmp_path / "top.vdi"), {"chain": "off"}) as source:
        assert source.info()["details"]["parent_uuid"].endswith("14")
        with pytest.raises(FailedPrecondition):
            source.readinto(0, memoryview(bytearray(1)))


def test_another_disk_or_a_changed_one_is_no_parent(tmp_path, family, vdi):
    options = {"chain": "on", "backing_file": "base.vdi"}
    for changes in ({"parent": 99}, {"parent": 10, "parent_modification": 99}):
        (tmp_path / "x.vdi").write_bytes(vdi(4 * BLOCK, [FREE] * 4, [], kind=4, **changes))
        with pytest.raises(FailedPrecondition) as caught:
            VdiFormat().open(ImageFile.open(tmp_path / "x.vdi"), options)
        assert caught.value.reason == "PARENT_MISMATCH"


@pytest.mark.parametrize("name", ["../base.vdi", "/etc/passwd", "..", "json"])
def test_only_plain_names_of_files_that_are_there_are_parents(tmp_path, family, name):
    with pytest.raises((PermissionDenied, NotFound)):
        VdiFormat().open(ImageFile.open(tmp_path / "mid.vdi"), {"chain": "on", "backing_file": name})


def test_a_disk_that_is_its_own_parent_is_refused(tmp_path, vdi):
    (tmp_path / "a.vdi").write_bytes(vdi(BLOCK, [FREE], [], kind=4, uuid=1, parent=1))
    with pytest.raises(MalformedImage) as caught:
        VdiFormat().open(ImageFile.open(tmp_path / "a.vdi"), {"chain": "on", "backing_file": "a.vdi"})
    assert caught.value.reason == "IMAGE_CHAIN_IMPOSSIBLE"


def test_undo_images_and_old_versions_are_refused_by_name(tmp_path, vdi):
    image = bytearray(vdi(BLOCK, [0], BLOCKS[:1], kind=3))
    (tmp_path / "a.vdi").write_bytes(image)
    with pytest.raises(Unsupported, match="undo"):
        VdiFormat().open(ImageFile.open(tmp_path / "a.vdi"))
    image[0x44:0x48] = b"\1\0\0\0"
    (tmp_path / "a.vdi").write_bytes(image)
    with pytest.raises(Unsupported, match="version"):
        VdiFormat().open(ImageFile.open(tmp_path / "a.vdi"))


def test_impossible_options_are_refused_and_close_the_file(tmp_path, family):
    before = len(os.listdir("/proc/self/fd"))
    for options in ({"chain": "maybe"}, {"backing_file": "x"}, {"nonsense": "1"}):
        with pytest.raises(InvalidArgument):
            VdiFormat().open(ImageFile.open(tmp_path / "top.vdi"), options)
    for options in ({"chain": "on"}, {}, {"chain": "on", "backing_file": "mid.vdi:gone.vdi"}):
        with pytest.raises((FailedPrecondition, NotFound)):
            VdiFormat().open(ImageFile.open(tmp_path / "top.vdi"), options)
    assert len(os.listdir("/proc/self/fd")) == before
