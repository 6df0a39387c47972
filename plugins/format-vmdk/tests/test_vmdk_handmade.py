"""Images of products that are not here, built by their specifications; qemu-img is the second opinion."""

from __future__ import annotations

import random

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported
from hypersdk_format_vmdk import VmdkFormat


def _grain(seed: int, size: int = 65536) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.peer
def test_a_cowd_extent_reads_as_qemu_img_reads_it(tmp_path, read, qemu_img, descriptor, cowd):
    sectors = 10007
    grains = {0: _grain(1, 512), 1: _grain(2, 512), 4095: _grain(3, 512), 4096: _grain(4, 512), 10006: _grain(5, 512)}
    (tmp_path / "a-delta.vmdk").write_bytes(cowd(sectors, grains))
    image = tmp_path / "a.vmdk"
    image.write_bytes(descriptor("vmfsSparse", f'RW {sectors} VMFSSPARSE "a-delta.vmdk"'))
    expected = bytearray(sectors * 512)
    for number, data in grains.items():
        expected[number * 512 : number * 512 + 512] = data
    assert read(image) == bytes(expected)
    qemu_img("convert", "-O", "raw", image, tmp_path / "a.raw")
    assert (tmp_path / "a.raw").read_bytes() == bytes(expected)


@pytest.mark.peer
def test_a_sesparse_extent_reads_as_qemu_img_reads_it(tmp_path, read, qemu_img, descriptor, sesparse):
    sectors = 8 * 4096 + 8 * 5
    grains: dict[int, bytes | int] = {
        0: _grain(1, 4096), 7: _grain(2, 4096), 8: 1 << 60, 9: 2 << 60, 4095: _grain(3, 4096), 4100: _grain(4, 4096),
    }  # fmt: skip
    (tmp_path / "a-sesparse.vmdk").write_bytes(sesparse(sectors, grains))
    image = tmp_path / "a.vmdk"
    image.write_bytes(descriptor("seSparse", f'RW {sectors} SESPARSE "a-sesparse.vmdk"'))
    expected = bytearray(sectors * 512)
    for number, data in grains.items():
        if isinstance(data, bytes):
            expected[number * 4096 : number * 4096 + 4096] = data
    assert read(image) == bytes(expected)
    qemu_img("convert", "-O", "raw", image, tmp_path / "a.raw")
    assert (tmp_path / "a.raw").read_bytes() == bytes(expected)


def test_a_sesparse_extent_with_a_journal_to_replay_is_refused(tmp_path, read, descriptor, sesparse):
    (tmp_path / "a-sesparse.vmdk").write_bytes(sesparse(4096, {}, replay=1))
    image = tmp_path / "a.vmdk"
    image.write_bytes(descriptor("seSparse", 'RW 4096 SESPARSE "a-sesparse.vmdk"'))
    with pytest.raises(Unsupported) as caught:
        read(image)
    assert caught.value.reason == "IMAGE_DIRTY"


@pytest.mark.parametrize("entry", [4 << 60, 5, (3 << 60) | 0xFFFFFFFFFFFF, 0xF << 60])
def test_an_impossible_sesparse_entry_is_named(tmp_path, read, descriptor, sesparse, entry):
    (tmp_path / "a-sesparse.vmdk").write_bytes(sesparse(4096, {3: entry}))
    image = tmp_path / "a.vmdk"
    image.write_bytes(descriptor("seSparse", 'RW 4096 SESPARSE "a-sesparse.vmdk"'))
    with pytest.raises(MalformedImage) as caught:
        read(image)
    assert caught.value.structure == "grain table"
    assert caught.value.offset == 10 * 512 + 3 * 8


def test_zeroed_grains_hide_the_parent_and_unallocated_ones_do_not(tmp_path, read, descriptor, hosted):
    base, delta = _grain(1), _grain(2)
    text = descriptor("monolithicSparse", 'RW 384 SPARSE "base.vmdk"', cid="000000aa")
    (tmp_path / "base.vmdk").write_bytes(hosted(384, {0: base, 1: base, 2: base}, text=text))
    text = descriptor("monolithicSparse", 'RW 384 SPARSE "top.vmdk"', extra='parentFileNameHint="base.vmdk"')
    text = text.replace(b"parentCID=ffffffff", b"parentCID=000000aa")
    (tmp_path / "top.vmdk").write_bytes(hosted(384, {0: delta, 1: 1}, text=text, flags=7, version=2))
    assert read(tmp_path / "top.vmdk", chain="on") == delta + bytes(65536) + base


def test_entry_one_without_the_zeroed_grain_flag_is_impossible(tmp_path, read, descriptor, hosted):
    text = descriptor("monolithicSparse", 'RW 128 SPARSE "a.vmdk"')
    (tmp_path / "a.vmdk").write_bytes(hosted(128, {0: 1}, text=text))
    with pytest.raises(MalformedImage, match="impossible place"):
        read(tmp_path / "a.vmdk")


def test_a_capacity_rounded_up_to_a_grain_gives_the_descriptors_size(tmp_path, read, descriptor, hosted):
    text = descriptor("monolithicSparse", 'RW 200 SPARSE "a.vmdk"')
    (tmp_path / "a.vmdk").write_bytes(hosted(256, {1: _grain(1)}, text=text))
    assert read(tmp_path / "a.vmdk") == bytes(65536) + _grain(1)[: 72 * 512]


def test_a_last_grain_cut_to_an_odd_capacity_is_read(tmp_path, read, descriptor, hosted):
    text = descriptor("monolithicSparse", 'RW 200 SPARSE "a.vmdk"')
    (tmp_path / "a.vmdk").write_bytes(hosted(200, {1: _grain(1)[: 72 * 512]}, text=text))
    assert read(tmp_path / "a.vmdk") == bytes(65536) + _grain(1)[: 72 * 512]


def test_flat_zero_and_sparse_extents_mix_in_one_disk(tmp_path, read, descriptor, hosted):
    (tmp_path / "f.vmdk").write_bytes(_grain(1, 4096))
    (tmp_path / "v.vmdk").write_bytes(_grain(2, 1024))
    (tmp_path / "s.vmdk").write_bytes(hosted(130, {1: _grain(3)}))
    image = tmp_path / "a.vmdk"
    image.write_bytes(descriptor(
        "custom", 'RW 3 FLAT "f.vmdk" 2', "RDONLY 5 ZERO", 'RW 2 VMFS "v.vmdk"', 'RW 130 SPARSE "s.vmdk"',
    ))  # fmt: skip
    expected = _grain(1, 4096)[1024:2560] + bytes(2560) + _grain(2, 1024) + bytes(65536) + _grain(3)[:1024]
    assert read(image) == expected


def test_the_redundant_directory_is_used_when_the_first_is_impossible(tmp_path, read, descriptor, hosted):
    text = descriptor("monolithicSparse", 'RW 256 SPARSE "a.vmdk"')
    damaged = bytearray(hosted(256, {1: _grain(1)}, text=text))
    damaged[26 * 512 : 26 * 512 + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.vmdk").write_bytes(damaged)
    assert read(tmp_path / "a.vmdk") == bytes(65536) + _grain(1)
    report = VmdkFormat().check(ImageFile.open(tmp_path / "a.vmdk"))
    assert report.corruptions == 1


def test_a_redundant_directory_with_gaps_is_not_taken_for_an_empty_disk(tmp_path, read, descriptor, hosted):
    text = descriptor("monolithicSparse", 'RW 256 SPARSE "a.vmdk"')
    damaged = bytearray(hosted(256, {1: _grain(1)}, text=text))
    damaged[26 * 512 : 26 * 512 + 4] = b"\xff\xff\xff\x7f"
    damaged[21 * 512 : 21 * 512 + 4] = bytes(4)
    (tmp_path / "a.vmdk").write_bytes(damaged)
    with pytest.raises(MalformedImage):
        read(tmp_path / "a.vmdk")


def test_names_in_a_windows_code_page_find_their_files(tmp_path, read, descriptor):
    (tmp_path / "größe-flat.vmdk").write_bytes(b"q" * 512)
    text = descriptor("monolithicFlat", 'RW 1 FLAT "größe-flat.vmdk" 0', extra='encoding="windows-1252"')
    (tmp_path / "a.vmdk").write_bytes(text.decode().encode("cp1252"))
    assert read(tmp_path / "a.vmdk") == b"q" * 512
