"""Hostile and damaged images: a typed error or the right bytes, soon, and nothing else."""

from __future__ import annotations

import struct
import tempfile
import time
import zlib
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, HyperError, MalformedImage, PermissionDenied, Unsupported
from hypersdk_format_qcow2 import Qcow2Format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORMAT = Qcow2Format()
CLUSTER = 4096
SIZE = 48 * CLUSTER
CONTENT = b"".join(bytes([i]) * CLUSTER if i % 3 else bytes(range(256)) * (CLUSTER // 256) for i in range(1, 49))
LAYOUTS = [
    {"cluster_size": "4k"}, {"cluster_size": "4k", "compress": "on"},
    {"cluster_size": "4k", "compress": "on", "compression_type": "zstd"}, {"cluster_size": "16k", "extended_l2": "on"},
]  # fmt: skip


def build(options: dict[str, str]) -> bytes:
    """An image of CONTENT with its middle third left out."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.qcow2"
        with ImageFile.create(path) as file:
            sink = FORMAT.create(file, SIZE, options)
            for start, end in ((0, SIZE // 3), (SIZE * 2 // 3, SIZE)):
                if sink.encodes:
                    sink.write_encoded(start, sink.encode(start, CONTENT[start:end]))
                else:
                    sink.write(start, CONTENT[start:end])
            sink.finish()
        return path.read_bytes()


IMAGES = [build(options) for options in LAYOUTS]
WANTED = CONTENT[: SIZE // 3] + bytes(SIZE // 3) + CONTENT[SIZE * 2 // 3 :]


def use(image: bytes) -> bytes:
    """Everything a user does with an image: look, map, read (at most 1 MiB), check."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.qcow2"
        path.write_bytes(image)
        try:
            with FORMAT.open(ImageFile.open(path)) as source:
                source.info()
                for count, extent in enumerate(source.extents()):
                    assert 0 <= extent.offset < extent.end <= source.size
                    if count > 10_000:
                        break
                buffer = bytearray(min(source.size, 1 << 20))
                source.readinto(0, memoryview(buffer))
        finally:
            try:
                with ImageFile.open(path) as file:
                    FORMAT.check(file)
            except HyperError as exc:
                assert exc.reason != "INTERNAL"
        return bytes(buffer)


def patched(image: bytes, offset: int, data: bytes) -> bytes:
    return image[:offset] + data + image[offset + len(data) :]


def header_word(image: bytes, offset: int, value: int, size: int = 4) -> bytes:
    return patched(image, offset, value.to_bytes(size, "big"))


@pytest.mark.parametrize("image", IMAGES, ids=["plain", "zlib", "zstd", "extended"])
def test_untouched_images_read_right(image) -> None:
    assert use(image) == WANTED


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    which=st.integers(0, len(IMAGES) - 1),
    edits=st.lists(st.tuples(st.integers(0, 111), st.binary(min_size=1, max_size=8)), min_size=1, max_size=3),
)
def test_any_header_gives_a_typed_error_or_bytes_in_bounded_time(which, edits) -> None:
    image = IMAGES[which]
    for offset, data in edits:
        image = patched(image, offset, data)
    assert_bounded(image)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    which=st.integers(0, len(IMAGES) - 1),
    place=st.floats(0, 1, exclude_max=True),
    data=st.one_of(st.binary(min_size=1, max_size=16), st.integers(0, 2**64 - 1).map(lambda v: struct.pack(">Q", v))),
)
def test_any_damage_to_tables_and_data_gives_a_typed_error_or_bytes(which, place, data) -> None:
    image = IMAGES[which]
    assert_bounded(patched(image, CLUSTER + int(place * (len(image) - CLUSTER)) & ~7, data)[: len(image)])


def assert_bounded(image: bytes) -> None:
    started = time.process_time()
    try:
        use(image)
    except HyperError as exc:
        assert exc.reason not in {"INTERNAL", "UNEXPECTED_EXCEPTION"}
        assert exc.message
    assert time.process_time() - started < 2.0  # open, map, read and check together; each has a second


@pytest.mark.parametrize("which", range(len(IMAGES)), ids=["plain", "zlib", "zstd", "extended"])
def test_truncation_anywhere_is_a_typed_error_and_never_wrong_bytes(which) -> None:
    image = IMAGES[which]
    boundaries = {0, 4, 71, 72, 103, 104, 111} | set(range(512, len(image), 512)) | {len(image) - 1}
    for length in sorted(boundaries):
        try:
            assert use(image[:length]) == WANTED, f"wrong bytes when cut at {length}"
        except MalformedImage as exc:
            assert exc.structure, f"cut at {length}: {exc.message}"


@pytest.mark.parametrize(
    ("offset", "value", "size", "structure"),
    [
        (20, 8, 4, "header"), (20, 22, 4, "header"), (36, 1 << 23, 4, "header"), (36, 0, 4, "header"),
        (40, 4097, 8, "L1 table"), (40, 1 << 55, 8, "L1 table"), (48, 4096, 8, "refcount table"),
        (56, 0xFFFFFFFF, 4, "header"), (96, 7, 4, "header"), (100, 50, 4, "header"), (24, 1 << 63, 8, "header"),
        (60, 0xFFFFFFFF, 4, "snapshot table"), (60, 1, 4, "snapshot table"),
    ],
)  # fmt: skip
def test_impossible_header_fields_name_their_structure(offset, value, size, structure) -> None:
    with pytest.raises(MalformedImage) as caught:
        use(header_word(IMAGES[0], offset, value, size))
    assert caught.value.structure == structure
    assert caught.value.offset is not None


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (1 << 63 | 4096, "metadata"), (1 << 63 | 0, ""), (1 << 56 | 0x8000, "reserved"), (0x8200, "aligned"),
        (1 << 40, "beyond"), (1 << 62 | 1 << 40, "beyond"), (1 << 62 | 16, "metadata"),
    ],
)  # fmt: skip
def test_impossible_l2_entries_are_refused(entry, what) -> None:
    image = IMAGES[0]
    (l1,) = struct.unpack_from(">Q", image, CLUSTER)
    damaged = header_word(image, l1 & ~(1 << 63), entry, 8)
    if not what:
        assert use(damaged)[:CLUSTER] == bytes(CLUSTER)
        return
    with pytest.raises(MalformedImage, match=what) as caught:
        use(damaged)
    assert caught.value.structure == "L2 table 0 entry 0"


def test_two_l1_entries_that_share_a_table_are_refused() -> None:
    image = header_word(IMAGES[0], 24, 4 << 20, 8)  # two L2 tables' worth
    image = header_word(image, 36, 2)
    image = patched(image, CLUSTER + 8, image[CLUSTER : CLUSTER + 8])
    with pytest.raises(MalformedImage, match="another entry names too"):
        use(image)


def kib(key: str) -> int:
    """A line of this process's status."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1])


def test_a_compression_bomb_is_inflated_no_further_than_its_cluster() -> None:
    image = IMAGES[1]
    (l1,) = struct.unpack_from(">Q", image, CLUSTER)
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = b"".join(stream.compress(bytes(1 << 20)) for _ in range(16)) + stream.flush()
    assert len(bomb) > 8 << 10  # the most that an entry can name, of which 8 MiB would come
    at = -(-len(image) // CLUSTER) * CLUSTER
    image = image.ljust(at, b"\0") + bomb.ljust(-(-len(bomb) // 512) * 512, b"\0")
    image = header_word(image, l1 & ~(1 << 63), 1 << 62 | 0xF << 58 | at, 8)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = kib("VmHWM")
    assert use(image)[:CLUSTER] == bytes(CLUSTER)
    assert kib("VmHWM") - before < 4 << 10


def test_a_zstd_frame_that_claims_exabytes_is_refused() -> None:
    image = IMAGES[2]
    (l1,) = struct.unpack_from(">Q", image, CLUSTER)
    (entry,) = struct.unpack_from(">Q", image, l1 & ~(1 << 63))
    offset = entry & ((1 << 58) - 1)
    with pytest.raises(MalformedImage, match="claims"):
        use(patched(image, offset, b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 60)))


def test_unknown_incompatible_features_are_named_from_the_images_own_table() -> None:
    import hypersdk_format_qcow2.extensions as ext

    names = ext.Extension(ext.EXT_FEATURE_NAMES, struct.pack(">BB46s", 0, 60, b"time travel"))
    image = patched(IMAGES[0], 112, ext.pack_extensions((names,)))
    with pytest.raises(Unsupported, match="time travel") as caught:
        use(header_word(image, 72, 1 << 60 | 1 << 59, 8))
    assert caught.value.reason == "FEATURE_UNSUPPORTED"
    assert "bit 59" in caught.value.message


def test_a_corrupt_mark_lets_only_the_information_out() -> None:
    image = header_word(IMAGES[0], 72, 2, 8)
    with pytest.raises(FailedPrecondition) as caught:
        use(image)
    assert caught.value.reason == "IMAGE_MARKED_CORRUPT"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.qcow2"
        path.write_bytes(image)
        with FORMAT.open(ImageFile.open(path)) as source:
            assert source.info()["details"]["corrupt"] is True
        with FORMAT.open(ImageFile.open(path), {"allow_corrupt": "on"}) as source:
            buffer = bytearray(SIZE)
            source.readinto(0, memoryview(buffer))
            assert bytes(buffer) == WANTED


def test_a_dirty_image_reads_right_and_says_so() -> None:
    image = header_word(IMAGES[0], 72, 1, 8)
    assert use(image) == WANTED


def overlay(name: str, fmt: str | None = "qcow2") -> bytes:
    import hypersdk_format_qcow2.extensions as ext
    from hypersdk_format_qcow2.header import Header

    known = (ext.Extension(ext.EXT_BACKING_FORMAT, fmt.encode()),) if fmt else ()
    header = Header(cluster_bits=16, size=0, backing_file=name, extensions=known, length=112)
    return header.pack().ljust(65536, b"\0")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.qcow2", "nbd://host", "json:{}", "sub/a.qcow2", "..", "a\0b"])
def test_a_backing_name_that_is_not_plain_is_refused(tmp_path, name) -> None:
    (tmp_path / "a.qcow2").write_bytes(overlay(name))
    with pytest.raises(PermissionDenied) as caught:
        FORMAT.open(ImageFile.open(tmp_path / "a.qcow2"), {"chain": "on"})
    assert caught.value.reason == "REFERENCE_REFUSED"


def test_a_chain_that_bites_its_tail_is_refused(tmp_path) -> None:
    (tmp_path / "a.qcow2").write_bytes(overlay("b.qcow2"))
    (tmp_path / "b.qcow2").write_bytes(overlay("a.qcow2"))
    with pytest.raises(MalformedImage) as caught:
        FORMAT.open(ImageFile.open(tmp_path / "a.qcow2"), {"chain": "on"})
    assert caught.value.reason == "BACKING_CHAIN_LOOP"


def test_a_backing_file_of_unknown_format_is_not_probed(tmp_path) -> None:
    (tmp_path / "a.qcow2").write_bytes(overlay("b.img", None))
    (tmp_path / "b.img").write_bytes(IMAGES[0])
    with pytest.raises(FailedPrecondition) as caught:
        FORMAT.open(ImageFile.open(tmp_path / "a.qcow2"), {"chain": "on"})
    assert caught.value.reason == "BACKING_FORMAT_UNKNOWN"
    with FORMAT.open(ImageFile.open(tmp_path / "a.qcow2"), {"chain": "on", "backing_fmt": "qcow2"}) as source:
        assert source.info()["backing"]["virtual_size"] == SIZE


@pytest.mark.parametrize("field", [8, 40, 48, 64])
def test_offsets_above_what_a_file_can_have_are_typed_errors(field) -> None:
    image = header_word(header_word(header_word(IMAGES[0], 60, 1), 16, 5), field, (1 << 64) - CLUSTER, 8)
    with pytest.raises(MalformedImage):
        use(image)
