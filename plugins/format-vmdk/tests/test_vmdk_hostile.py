"""Hostile and damaged images: a typed error or the right bytes, never anything else, in bounded time and memory."""

from __future__ import annotations

import random
import resource
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import DataLoss, HyperError, MalformedImage
from hypersdk_format_vmdk import VmdkFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MUTATIONS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def outcome(path: Path, limit: int = 64 << 20) -> bytes | HyperError:
    """What reading gives: the content (of at most `limit` bytes of data) or a typed error."""
    try:
        with VmdkFormat().open(ImageFile.open(path)) as source:
            assert source.info()["format"] == "vmdk"
            if source.size > limit:
                held = 0
                for extent in source.extents():
                    if extent.kind is ExtentKind.DATA:
                        held += extent.length
                        piece = bytearray(min(extent.length, 1 << 20))
                        source.readinto(extent.offset, memoryview(piece))
                    if held > limit:
                        break
                return b""
            data = bytearray(source.size)
            source.readinto(0, memoryview(data))
            list(source.extents())
            return bytes(data)
    except HyperError as exc:
        return exc


@pytest.fixture
def images(tmp_path, sample, hosted, descriptor) -> dict[str, tuple[Path, bytes]]:
    """Small images of one file each: name → path, content."""
    data = bytearray(sample(1 << 20))
    data[300000:400000] = random.Random(5).randbytes(100000)
    content = bytes(data)
    found = {}
    for subformat in ("monolithicSparse", "streamOptimized"):
        path = tmp_path / f"{subformat}.vmdk"
        sink = VmdkFormat().create(ImageFile.create(path), len(content), {"subformat": subformat})
        sink.write(0, content)
        sink.finish()
        found[subformat] = (path, content)
    path = tmp_path / "zeroed.vmdk"
    text = descriptor("monolithicSparse", 'RW 300 SPARSE "zeroed.vmdk"')
    path.write_bytes(hosted(300, {0: content[:65536], 1: 1, 2: content[:65536]}, text=text, flags=7, version=2))
    found["zeroed"] = (path, content[:65536] + bytes(65536) + content[: 44 * 512])
    return found


@pytest.mark.parametrize("name", ["monolithicSparse", "streamOptimized", "zeroed"])
def test_a_file_cut_at_any_sector_or_beside_it_is_an_error_not_wrong_bytes(tmp_path, images, name):
    path, content = images[name]
    whole = path.read_bytes()
    assert outcome(path) == content
    short = tmp_path / "short.vmdk"
    for sector in range(0, len(whole) // 512, 1 if name == "streamOptimized" else 3):
        for length in {sector * 512, max(0, sector * 512 - 1), sector * 512 + 1} - {len(whole)}:
            short.write_bytes(whole[:length])
            got = outcome(short)
            if name == "zeroed" and isinstance(got, bytes):
                assert got == content  # the cut took bytes past the odd capacity only
                continue
            assert isinstance(got, MalformedImage), (length, got if isinstance(got, HyperError) else len(got))


@pytest.mark.peer
@pytest.mark.parametrize(
    "subformat", ["monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse", "monolithicFlat"]
)
def test_qemu_imgs_files_cut_short_never_give_wrong_bytes(tmp_path, qemu_img, sample, subformat):
    raw, image = tmp_path / "a.raw", tmp_path / "a.vmdk"
    content = sample(1 << 20)
    raw.write_bytes(content)
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={subformat}", raw, image)
    [extent] = [p for p in tmp_path.glob("a*.vmdk") if "-" in p.name] or [image]
    whole = extent.read_bytes()
    for length in range(0, len(whole) - 1, 512 * 5):
        extent.write_bytes(whole[:length])
        got = outcome(image)
        assert isinstance(got, HyperError) or got == content, length  # qemu-img leaves slack at a stream's end
    extent.write_bytes(whole)
    assert outcome(image) == content


@pytest.mark.parametrize("name", ["monolithicSparse", "streamOptimized", "zeroed"])
@MUTATIONS
@given(data=st.data())
def test_mutated_images_give_typed_errors_or_bytes(images, tmp_path, name, data):
    path, _ = images[name]
    whole = bytearray(path.read_bytes())
    hot = [0, 512, 21 * 512, 22 * 512, 26 * 512, 27 * 512, len(whole) - 1536, len(whole) - 1024, 65536]
    for _ in range(data.draw(st.integers(1, 4))):
        base = data.draw(st.sampled_from(hot))
        at = min(len(whole) - 8, max(0, base + data.draw(st.integers(0, 100))))
        value = data.draw(st.sampled_from([0, 1, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 128, 512]) | st.integers(0, 2**32 - 1))
        struct.pack_into("<I", whole, at, value)
    mutant = tmp_path / "mutant.vmdk"
    mutant.write_bytes(whole)
    started = time.process_time()
    got = outcome(mutant)
    assert isinstance(got, bytes | HyperError)
    assert time.process_time() - started < 1.0
    try:
        VmdkFormat().check(ImageFile.open(mutant))
    except HyperError:
        pass
    assert time.process_time() - started < 2.0


@MUTATIONS
@given(text=st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
def test_any_text_behind_the_first_line_is_a_descriptor_or_a_typed_error(tmp_path, text):
    path = tmp_path / "d.vmdk"
    path.write_bytes(b"# Disk DescriptorFile\n" + text)
    assert isinstance(outcome(path), bytes | HyperError)


@MUTATIONS
@given(raw=st.binary(max_size=2048))
def test_any_bytes_behind_a_magic_number_are_a_typed_error(tmp_path, raw, descriptor):
    for magic, line in ((b"KDMV", "SPARSE"), (b"COWD", "VMFSSPARSE"), (b"\xbe\xba\xfe\xca\0\0\0\0", "SESPARSE")):
        (tmp_path / "x").write_bytes(magic + raw)
        (tmp_path / "d.vmdk").write_bytes(descriptor("custom", f'RW 64 {line} "x"'))
        assert isinstance(outcome(tmp_path / "d.vmdk"), HyperError)
        assert isinstance(outcome(tmp_path / "x"), HyperError)


def _stream_with(tmp_path: Path, stored: bytes, *, lba: int = 0, size: int | None = None) -> Path:
    """A stream of one grain whose marker and bytes are ours to choose."""
    path = tmp_path / "bomb.vmdk"
    sink = VmdkFormat().create(ImageFile.create(path), 65536, {"subformat": "streamOptimized"})
    from hypersdk_format_vmdk.grains import EncodedPiece

    marker = struct.pack("<QI", lba, len(stored) if size is None else size) + stored
    sink.write_encoded(0, EncodedPiece([0], [0], marker.ljust(-(-len(marker) // 512) * 512, b"\0")))
    sink.finish()
    return path


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (zlib.compress(bytes(100 << 20), 9), MalformedImage),
        (zlib.compress(bytes(65537)), MalformedImage),
        (zlib.compress(bytes(65535)), MalformedImage),
        (zlib.compress(b""), MalformedImage),
        (zlib.compress(b"x" * 65536)[:-1], MalformedImage),
        (zlib.compress(b"x" * 65536)[:-4] + b"\0\0\0\0", DataLoss),
        (b"not zlib at all", DataLoss),
    ],
    ids=["bomb", "one more", "one less", "empty", "cut", "checksum", "garbage"],
)
def test_grains_that_do_not_decompress_to_themselves_are_refused(tmp_path, stored, kind):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    got = outcome(_stream_with(tmp_path, stored))
    assert isinstance(got, kind)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize(("lba", "size"), [(128, None), (1 << 60, None), (0, 0), (0, 1 << 31), (0, 200000)])
def test_markers_that_contradict_the_table_are_refused(tmp_path, lba, size):
    got = outcome(_stream_with(tmp_path, zlib.compress(bytes(65536)), lba=lba, size=size))
    assert isinstance(got, MalformedImage)
    assert got.structure == "compressed grain"


def test_a_stream_without_its_end_says_so(tmp_path):
    path = _stream_with(tmp_path, zlib.compress(bytes(65536)))
    path.write_bytes(path.read_bytes()[:-512])
    got = outcome(path)
    assert isinstance(got, MalformedImage)
    assert (got.structure, got.reason) == ("footer", "IMAGE_TRUNCATED")


@pytest.mark.parametrize(
    ("at", "value"),
    [(12, 1 << 63), (12, 1 << 50), (20, 0), (20, 3), (20, 1 << 40), (36, 1 << 40), (44, 0), (44, 513), (56, 0),
     (56, 1 << 40), (56, 1 << 63), (64, 1 << 30), (4, 9), (77, 7)],
)  # fmt: skip
def test_impossible_numbers_in_the_header_are_refused_in_no_time(images, at, value):
    path, _ = images["monolithicSparse"]
    whole = bytearray(path.read_bytes())
    struct.pack_into("<H" if at == 77 else "<I" if at in {4, 44} else "<Q", whole, at, value)
    if at == 56:
        struct.pack_into("<Q", whole, 48, value)
    path.write_bytes(whole)
    started = time.process_time()
    got = outcome(path)
    assert isinstance(got, HyperError)
    assert time.process_time() - started < 0.5


def test_a_text_mode_transfer_is_noticed(images):
    path, _ = images["streamOptimized"]
    path.write_bytes(path.read_bytes().replace(b"\n \r\n", b"\n \n\n"))
    got = outcome(path)
    assert isinstance(got, MalformedImage)
    assert "text mode" in got.message


def test_a_directory_that_uses_a_table_twice_is_refused(tmp_path, hosted, descriptor):
    text = descriptor("monolithicSparse", 'RW 131072 SPARSE "a.vmdk"')
    image = bytearray(hosted(131072, {}, text=text, flags=1))
    image[30 * 512 + 4 : 30 * 512 + 8] = image[30 * 512 : 30 * 512 + 4]
    (tmp_path / "a.vmdk").write_bytes(image)
    got = outcome(tmp_path / "a.vmdk")
    assert isinstance(got, MalformedImage)
    assert "twice" in got.message
