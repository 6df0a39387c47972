"""Images written by qemu-img, in every option that changes what is stored, read as qemu-img reads them."""

from __future__ import annotations

import json

import pytest
from hypersdk.errors import FailedPrecondition, NotFound

pytestmark = pytest.mark.peer

CLUSTERS = ["512", "4k", "16k", "64k", "1M", "2M"]
PLAIN = [
    "", "compat=0.10", "lazy_refcounts=on", "refcount_bits=1", "refcount_bits=64", "extended_l2=on",
    "preallocation=metadata", "preallocation=falloc", "preallocation=full", "extended_l2=on,preallocation=metadata",
]  # fmt: skip
COMPRESSED = ["", "compat=0.10", "compression_type=zstd", "refcount_bits=2", "extended_l2=on"]
SIZE = 5 * (1 << 20) + 3 * 512


def combinations(extras: list[str]) -> list[tuple[str, str]]:
    """With every cluster size; QEMU has no subclusters in clusters below 16k."""
    return [(c, extra) for c in CLUSTERS for extra in extras if "extended" not in extra or c not in {"512", "4k"}]


def assert_same_check(images, qemu_img, path) -> None:
    """Our check finds nothing, and counts what qemu-img counts."""
    report = images.check(path)
    theirs = json.loads(qemu_img("check", "--output=json", path))
    assert (report.corruptions, report.leaks, report.messages) == (0, 0, ())
    assert report.allocated_units == theirs.get("allocated-clusters", 0)
    assert report.total_units == theirs["total-clusters"]
    assert report.details["compressed_clusters"] == theirs.get("compressed-clusters", 0)
    assert report.details["image_end_offset"] == theirs["image-end-offset"]


@pytest.mark.parametrize(("cluster_size", "extra"), combinations(PLAIN))
def test_plain_images_of_every_layout_read_right(images, qemu_img, tmp_path, cluster_size, extra) -> None:
    data = images.content(SIZE, 4096, seed=1)
    (tmp_path / "a.raw").write_bytes(data)
    options = ",".join(filter(None, [f"cluster_size={cluster_size}", extra]))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", options, "a.raw", "a.qcow2")
    assert images.read(tmp_path / "a.qcow2") == data
    assert_same_check(images, qemu_img, tmp_path / "a.qcow2")


@pytest.mark.parametrize(("cluster_size", "extra"), combinations(COMPRESSED))
def test_compressed_images_read_right(images, qemu_img, tmp_path, cluster_size, extra) -> None:
    data = images.content(SIZE, 65536, seed=2)
    (tmp_path / "a.raw").write_bytes(data)
    options = ",".join(filter(None, [f"cluster_size={cluster_size}", extra]))
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "a.raw", "a.qcow2")
    assert images.read(tmp_path / "a.qcow2") == data
    assert_same_check(images, qemu_img, tmp_path / "a.qcow2")


@pytest.mark.parametrize("extra", ["compat=0.10", "extended_l2=on", "cluster_size=4k"])
def test_snapshots_zero_clusters_and_discards_read_right(images, qemu_img, qemu_io, tmp_path, extra) -> None:
    data = images.content(SIZE, 65536, seed=3)
    (tmp_path / "a.raw").write_bytes(data)
    path = tmp_path / "a.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", extra, "a.raw", path)
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -P 51 100k 300k", "write -z 1M 1M", "discard 3M 1M", "write -P 9 4000k 3k")
    qemu_img("snapshot", "-c", "second", path)
    qemu_io(path, "write -P 85 0 30k")
    qemu_img("convert", "-O", "raw", path, "now.raw")
    qemu_img("convert", "-l", "second", "-O", "raw", path, "second.raw")

    assert images.read(path) == (tmp_path / "now.raw").read_bytes()
    assert images.read(path, snapshot="first") == data
    assert images.read(path, snapshot="1") == data
    assert images.read(path, snapshot="second") == (tmp_path / "second.raw").read_bytes()
    assert_same_check(images, qemu_img, path)
    with images.open(path) as source:
        assert [s["name"] for s in source.info()["details"]["snapshots"]] == ["first", "second"]
    with pytest.raises(NotFound, match=r"first"):
        images.open(path, snapshot="third")


@pytest.mark.parametrize("extra", ["cluster_size=64k", "extended_l2=on"])
def test_a_chain_of_three_reads_right_with_chain_on(images, qemu_img, qemu_io, tmp_path, extra) -> None:
    (tmp_path / "base.qcow2").write_bytes(images.write(images.content(SIZE, 65536, seed=4)).read_bytes())
    qemu_img("create", "-f", "qcow2", "-o", extra, "-b", "base.qcow2", "-F", "qcow2", "middle.qcow2")
    qemu_io(tmp_path / "middle.qcow2", "write -P 51 100k 3k", "write -z 1M 100k")
    qemu_img("create", "-f", "qcow2", "-o", extra, "-b", "middle.qcow2", "-F", "qcow2", "top.qcow2", "9M")
    qemu_io(tmp_path / "top.qcow2", "write -P 52 101k 1k", "write -P 1 8M 5k")
    qemu_img("convert", "-O", "raw", "top.qcow2", "top.raw")
    assert images.read(tmp_path / "top.qcow2", chain="on") == (tmp_path / "top.raw").read_bytes()
    with images.open(tmp_path / "top.qcow2", chain="on") as source:
        info = source.info()
        assert info["backing_file"] == "middle.qcow2"
        assert info["backing"]["backing"]["format"] == "qcow2"


def test_an_overlay_is_never_read_without_its_parent(images, qemu_img, tmp_path) -> None:
    images.write(images.content(SIZE, 65536), name="base.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
    with pytest.raises(FailedPrecondition) as caught:
        images.open(tmp_path / "top.qcow2")
    assert caught.value.reason == "IMAGE_HAS_PARENT"
    assert caught.value.metadata["parent"] == "base.qcow2"
    with images.open(tmp_path / "top.qcow2", chain="off") as source:
        assert source.info()["backing_file"] == "base.qcow2"
        with pytest.raises(FailedPrecondition, match="chain=on"):
            source.readinto(0, memoryview(bytearray(1)))
        with pytest.raises(FailedPrecondition, match="chain=on"):
            list(source.extents())


def test_dirty_bitmaps_are_no_leaks(images, qemu_img, tmp_path) -> None:
    qemu_img("create", "-f", "qcow2", "a.qcow2", "1G")
    qemu_img("bitmap", "--add", "a.qcow2", "changes")
    assert_same_check(images, qemu_img, tmp_path / "a.qcow2")
    with images.open(tmp_path / "a.qcow2") as source:
        assert source.info()["details"]["bitmaps"] == 1


def test_encryption_and_external_data_are_refused_by_name(images, qemu_img, tmp_path) -> None:
    qemu_img("create", "-f", "qcow2", "-o", "data_file=data.raw", "external.qcow2", "1M")
    with pytest.raises(FailedPrecondition) as caught:
        images.open(tmp_path / "external.qcow2")
    assert caught.value.reason == "EXTERNAL_DATA_UNSUPPORTED"
    for left in reversed(range(5)):  # it times its key derivation, and gives up on a machine too busy for it
        try:
            qemu_img(
                "create", "-f", "qcow2", "--object", "secret,id=s,data=1234",
                "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "luks.qcow2", "1M",
            )  # fmt: skip
            break
        except AssertionError as exc:
            if not left or "accurate CPU usage" not in str(exc):
                raise
    with pytest.raises(FailedPrecondition) as caught:
        images.open(tmp_path / "luks.qcow2")
    assert caught.value.reason == "ENCRYPTION_UNSUPPORTED"
    assert "LUKS" in caught.value.message
