"""The parts alone: refcount packing, codecs, create options, the manifest."""

from __future__ import annotations

import json
import zlib
from importlib.resources import files

import numpy as np
import pytest
from hypersdk.errors import InvalidArgument, Unsupported
from hypersdk.plugin.manifest import Manifest
from hypersdk_format_qcow2.codecs import CodecError, DeflateCodec, ZstdCodec
from hypersdk_format_qcow2.header import MAGIC
from hypersdk_format_qcow2.options import HELP, parse_create_options
from hypersdk_format_qcow2.refcounts import block_entries, max_refcount, pack_block, unpack_block
from hypothesis import given
from hypothesis import strategies as st


@given(order=st.integers(0, 6), data=st.data())
def test_refcounts_of_every_width_survive_packing(order, data) -> None:
    limit = min(max_refcount(order), 65535)
    counts = np.zeros(block_entries(512, order), np.uint16)
    for index in data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=20)):
        counts[index] = data.draw(st.integers(0, limit))
    block = pack_block(counts, order)
    assert len(block) == 512
    assert unpack_block(block, order).tolist() == counts.tolist()


def test_narrow_refcounts_fill_bytes_from_the_low_end() -> None:
    assert pack_block(np.array([1, 0, 0, 0, 0, 0, 0, 0], np.uint16), 0) == b"\x01"
    assert pack_block(np.array([1, 2], np.uint16), 2) == b"\x21"


@pytest.mark.parametrize("codec", [DeflateCodec(), ZstdCodec()], ids=["zlib", "zstd"])
@given(seed=st.binary(min_size=1, max_size=64), garbage=st.binary(max_size=600))
def test_a_cluster_survives_compression_and_garbage_behind_it(codec, seed, garbage) -> None:
    cluster = (seed * 4096)[:4096]
    assert codec.decompress(codec.compress(cluster) + bytes(8) + garbage, 4096) == cluster


@pytest.mark.parametrize("codec", [DeflateCodec(), ZstdCodec()], ids=["zlib", "zstd"])
@given(blob=st.binary(max_size=300))
def test_any_blob_gives_a_cluster_or_a_codec_error(codec, blob) -> None:
    try:
        assert len(codec.decompress(blob, 4096)) == 4096
    except CodecError as exc:
        assert str(exc)


@pytest.mark.parametrize("codec", [DeflateCodec(), ZstdCodec()], ids=["zlib", "zstd"])
def test_a_blob_that_was_cut_is_an_error_unless_only_its_end_mark_is_missing(codec) -> None:
    cluster = bytes(range(256)) * 256
    blob = codec.compress(cluster)
    for length in range(len(blob)):
        try:
            assert codec.decompress(blob[:length], 65536) == cluster
            assert length > len(blob) - 12
        except CodecError as exc:
            assert str(exc)


def test_deflate_never_looks_back_more_than_4_kib() -> None:
    cluster = np.random.default_rng(1).integers(0, 256, 6000, np.uint8).tobytes() * 11
    cluster = cluster[:65536]
    assert zlib.decompress(DeflateCodec().compress(cluster), wbits=-12) == cluster


def test_options_of_qemu_img_are_understood_as_it_does() -> None:
    parsed = parse_create_options(
        {"compat": "v3", "cluster_size": "2M", "compression_type": "zstd", "lazy_refcounts": "on", "refcount_bits": "1"}
    )
    assert (parsed.version, parsed.cluster_bits, parsed.compression_type) == (3, 21, "zstd")
    assert (parsed.lazy_refcounts, parsed.refcount_order, parsed.compress) == (True, 0, False)
    assert parse_create_options({"compat": "0.10", "cluster_size": "512"}).version == 2


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("cluster_sise", "64k", "OPTION_UNKNOWN"), ("cluster_size", "100", "OPTION_INVALID"),
        ("cluster_size", "256", "OPTION_INVALID"), ("cluster_size", "4M", "OPTION_INVALID"),
        ("cluster_size", "-64k", "OPTION_INVALID"), ("cluster_size", "", "OPTION_INVALID"),
        ("refcount_bits", "3", "OPTION_INVALID"), ("compat", "2", "OPTION_INVALID"),
        ("compress", "1", "OPTION_INVALID"),
        ("compression_type", "lzma", "OPTION_INVALID"),
    ],
)  # fmt: skip
def test_wrong_options_say_which_and_what_is_right(name, value, reason) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_create_options({name: value})
    assert caught.value.reason == reason
    assert caught.value.violations[0].field == f"options.{name}"
    if reason == "OPTION_UNKNOWN":
        assert all(known in caught.value.message for known in HELP)


@pytest.mark.parametrize(
    "options",
    [{"compat": "0.10", "refcount_bits": "8"}, {"compat": "0.10", "compression_type": "zstd"},
     {"compat": "0.10", "lazy_refcounts": "on"}, {"extended_l2": "on", "cluster_size": "4k"},
     {"backing_file": "x"}, {"backing_fmt": "raw"}],
)  # fmt: skip
def test_options_that_exclude_each_other_are_refused(options) -> None:
    with pytest.raises(InvalidArgument):
        parse_create_options(options)


@pytest.mark.parametrize("options", [{"preallocation": "full"}, {"data_file": "x"}])
def test_what_is_not_written_here_is_unsupported(options) -> None:
    with pytest.raises(Unsupported):
        parse_create_options(options)


def test_the_manifest_is_valid_and_names_the_class() -> None:
    manifest = Manifest.parse((files("hypersdk_format_qcow2") / "manifest.json").read_text())
    assert manifest.components["format/qcow2"].extensions[0] == ".qcow2"
    assert MAGIC == b"QFI\xfb"


def test_the_state_of_a_checkpoint_is_small_and_of_this_image_only(images) -> None:
    from hypersdk.data.imagefile import ImageFile

    path = images.directory / "a.qcow2"
    with ImageFile.create(path) as file:
        sink = images.format.create(file, 1 << 40)
        sink.write(0, b"x" * (1 << 20))
        state = sink.checkpoint()
        assert len(json.dumps(state)) < 1000
        sink.abort()
    with ImageFile.create(path, resume=True) as file:
        for size, options, resume in (
            (1 << 39, {}, state), (1 << 40, {"cluster_size": "4k"}, state), (1 << 40, {}, {}),
            (1 << 40, {}, {**state, "end": 1 << 50}), (1 << 40, {}, {**state, "fill": "x"}),
            (1 << 40, {}, {**state, "batches": [None]}),
        ):  # fmt: skip
            with pytest.raises(InvalidArgument) as caught:
                images.format.create(file, size, options, resume)
            assert caught.value.reason == "RESUME_STATE_INVALID"


def test_a_disk_that_the_cluster_size_cannot_map_is_refused(images) -> None:
    from hypersdk.data.imagefile import ImageFile

    with ImageFile.create(images.directory / "a.qcow2") as file, pytest.raises(InvalidArgument, match="cluster_size"):
        images.format.create(file, 1 << 40, {"cluster_size": "512"})


def test_writes_out_of_order_or_in_part_are_refused(images) -> None:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.errors import FailedPrecondition, OutOfRange

    with ImageFile.create(images.directory / "a.qcow2") as file:
        sink = images.format.create(file, 1 << 20)
        sink.write(65536, b"x" * 65536)
        for offset, length, error in (
            (0, 65536, InvalidArgument), (131072, 100, InvalidArgument), (131073, 65536, InvalidArgument),
            (1 << 20, 65536, OutOfRange),
        ):  # fmt: skip
            with pytest.raises(error):
                sink.write(offset, bytes(length))
        sink.abort()
        with pytest.raises(FailedPrecondition):
            sink.finish()
