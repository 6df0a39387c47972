"""Overlays: images over a backing file that hold only what differs, judged by qemu-img."""

from __future__ import annotations

import json

import pytest
from hypersdk.data.copytypes import CopyHooks, CopyOptions
from hypersdk.data.images import FormatRegistry, compare, convert, open_image
from hypersdk.errors import HyperError, InvalidArgument, NotFound, PermissionDenied

MIB = 1 << 20
BASE = {"backing_file": "base.img", "backing_fmt": "raw"}
LAYOUTS = [
    {}, {"compat": "0.10"}, {"compress": "on"}, {"extended_l2": "on"}, {"cluster_size": "512"}, {"cluster_size": "2M"},
    {"compress": "on", "compression_type": "zstd"}, {"compress": "on", "extended_l2": "on"},
]  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> FormatRegistry:
    return FormatRegistry.installed()


def changed(base: bytes, size: int) -> bytes:
    """`base` cut or grown to `size`, with a byte changed, a stretch of data made zeros and one of zeros made data."""
    data = bytearray(base[:size].ljust(size, b"\0"))
    data[70_000] ^= 255
    data[MIB : MIB + 300_000] = bytes(300_000)
    data[2 * MIB - 5 : 2 * MIB + 5] = b"0123456789"
    if size > len(base):
        data[-1] = 7
    return bytes(data)


@pytest.mark.peer
@pytest.mark.parametrize("options", LAYOUTS, ids=lambda o: ",".join(f"{k}={v}" for k, v in o.items()) or "default")
@pytest.mark.parametrize("size", [4 * MIB, 5 * MIB + 1536, 3 * MIB - 700])
def test_an_overlay_reads_as_the_source_for_us_and_for_qemu_img(
    images, qemu_img, tmp_path, registry, options, size
) -> None:
    base = images.content(4 * MIB, 65536, seed=3)
    (tmp_path / "base.img").write_bytes(base)
    (tmp_path / "source.img").write_bytes(changed(base, size))
    convert(
        tmp_path / "source.img", tmp_path / "over.qcow2", registry=registry, src_format="raw", dst_format="qcow2",
        options={**options, **BASE},
    )  # fmt: skip
    qemu_img("check", "over.qcow2")
    qemu_img("compare", "-f", "raw", "-F", "qcow2", "source.img", "over.qcow2")
    with (
        open_image(tmp_path / "source.img", registry=registry, format_name="raw") as source,
        open_image(tmp_path / "over.qcow2", registry=registry, options={"chain": "on"}) as overlay,
    ):
        assert compare(source, overlay) is None


def test_an_overlay_of_an_equal_disk_holds_no_data(images, tmp_path, registry) -> None:
    base = images.content(4 * MIB, 65536, seed=4)
    for name in ("base.img", "source.img"):
        (tmp_path / name).write_bytes(base)
    result = convert(
        tmp_path / "source.img", tmp_path / "over.qcow2", registry=registry, src_format="raw", dst_format="qcow2",
        options=BASE,
    )  # fmt: skip
    assert result.sink["data_clusters"] == 0
    assert result.sink["file_bytes"] < 5 * 65536


def test_an_overlay_of_a_disk_emptied_keeps_zeros_and_no_data(images, tmp_path, registry) -> None:
    (tmp_path / "base.img").write_bytes(b"x" * 4 * MIB)
    (tmp_path / "source.img").write_bytes(bytes(4 * MIB))
    result = convert(
        tmp_path / "source.img", tmp_path / "over.qcow2", registry=registry, src_format="raw", dst_format="qcow2",
        options=BASE,
    )  # fmt: skip
    assert result.sink["data_clusters"] == 0
    assert images.read(tmp_path / "over.qcow2", chain="on") == bytes(4 * MIB)


def test_the_rest_of_the_last_sector_does_not_show_the_backing_file(images, tmp_path, registry) -> None:
    (tmp_path / "base.img").write_bytes(b"x" * 2048)
    (tmp_path / "source.img").write_bytes(b"x" * 1000)
    convert(
        tmp_path / "source.img", tmp_path / "over.qcow2", registry=registry, src_format="raw", dst_format="qcow2",
        options=BASE,
    )  # fmt: skip
    assert images.read(tmp_path / "over.qcow2", chain="on") == (b"x" * 1000).ljust(1024, b"\0")


@pytest.mark.parametrize("options", [{}, {"compress": "on"}, {"compat": "0.10"}, {"extended_l2": "on"}])
def test_an_interrupted_overlay_goes_on_from_its_checkpoint(images, tmp_path, registry, options) -> None:
    base = images.content(12 * MIB, 65536, seed=5)
    (tmp_path / "base.img").write_bytes(base)
    (tmp_path / "source.img").write_bytes(wanted := changed(base, 12 * MIB))

    def attempt(hooks: CopyHooks) -> None:
        convert(
            tmp_path / "source.img", tmp_path / "over.qcow2", registry=registry, src_format="raw",
            dst_format="qcow2", options={**options, **BASE}, resume=True, hooks=hooks,
            copy_options=CopyOptions(checkpoint_bytes=1, checkpoint_seconds=0),
        )  # fmt: skip

    def stop(offset: int, state: dict) -> None:
        assert json.dumps(state)
        if offset >= 6 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(CopyHooks(checkpoint=stop))
    attempt(CopyHooks())
    assert images.read(tmp_path / "over.qcow2", chain="on") == wanted
    assert images.check(tmp_path / "over.qcow2").corruptions == 0


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [("../base.img", PermissionDenied, "REFERENCE_REFUSED"), ("/etc/passwd", PermissionDenied, "REFERENCE_REFUSED"),
     ("json:{}", PermissionDenied, "REFERENCE_REFUSED"), ("link.img", HyperError, "FILE_PERMISSION"),
     ("absent.img", NotFound, "REFERENCED_FILE_MISSING"), ("over.qcow2", InvalidArgument, "SAME_FILE")],
)  # fmt: skip
def test_a_backing_file_that_is_no_plain_name_beside_the_image_is_not_recorded(
    tmp_path, registry, name, error, reason
) -> None:
    (tmp_path / "base.img").write_bytes(bytes(MIB))
    (tmp_path / "source.img").write_bytes(bytes(MIB))
    (tmp_path / "over.qcow2").write_bytes(b"before")
    (tmp_path / "link.img").symlink_to("base.img")
    with pytest.raises(error) as caught:
        convert(
            tmp_path / "source.img", tmp_path / "over.qcow2", registry=registry, src_format="raw",
            dst_format="qcow2", options={"backing_file": name, "backing_fmt": "raw"},
        )  # fmt: skip
    assert caught.value.reason == reason
    assert (tmp_path / "over.qcow2").read_bytes() == b"before"


def test_a_name_that_does_not_fit_into_a_small_cluster_is_refused_before_anything_is_written(
    images, tmp_path, registry
) -> None:
    long = "b" * 250
    for name in ("source.img", long, "short.img"):
        (tmp_path / name).write_bytes(b"x" * 1024)
    options = {"cluster_size": "512", "backing_fmt": "raw" + " " * 250, "backing_file": long}
    from hypersdk.data.imagefile import ImageFile

    with ImageFile.create(tmp_path / "a.qcow2") as file, pytest.raises(InvalidArgument, match="does not fit"):
        images.format.create(file, 1024, options)
    options = {"cluster_size": "512", "backing_fmt": "raw", "backing_file": long}
    convert(
        tmp_path / "source.img", tmp_path / "fits.qcow2", registry=registry, src_format="raw", dst_format="qcow2",
        options=options,
    )  # fmt: skip
    assert images.read(tmp_path / "fits.qcow2", chain="on") == b"x" * 1024


def test_measure_is_never_less_than_an_overlay(images, tmp_path, registry) -> None:
    (tmp_path / "base.img").write_bytes(b"x" * 4 * MIB)
    (tmp_path / "source.img").write_bytes(bytes(4 * MIB))
    options = {**BASE, "cluster_size": "512"}
    result = convert(
        tmp_path / "source.img", tmp_path / "over.qcow2", registry=registry, src_format="raw", dst_format="qcow2",
        options=options,
    )  # fmt: skip
    with open_image(tmp_path / "source.img", registry=registry, format_name="raw") as source:
        assert images.format.measure(source, options) >= result.sink["file_bytes"]
