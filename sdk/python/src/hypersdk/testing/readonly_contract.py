"""ReadOnlyFormatContract: what an implementation of `ImageFormat` must keep that reads a format and does not write it.

Works on images that the subclass builds in memory. Not here: whether they are what other software writes, which
belongs into a plugin's own tests.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import HyperError, MalformedImage, OutOfRange, Unsupported
from hypersdk.plugin import ImageFormat
from hypersdk.plugin.image_format import PROBE_BYTES

_SECONDS = 2.0
"""CPU to open, map and read a hostile image; each has a second."""
_READ_BYTES = 4 << 20
_fuzz = settings(
    max_examples=120, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)  # fmt: skip


class ReadOnlyFormatContract:
    """Subclass it and give:

    image_format   class attribute: the format
    samples        class attribute: name → (bytes of an image, its content), each below a few MiB
    tail_magic     class attribute: True for a format whose mark is at the end of the file
    """

    image_format: ClassVar[ImageFormat]
    samples: ClassVar[dict[str, tuple[bytes, bytes]]]
    tail_magic: ClassVar[bool] = False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "sample" in metafunc.fixturenames:
            metafunc.parametrize("sample", list(self.samples))

    def use(self, image: bytes) -> bytes:
        """Everything a user does with an image: look, map, read its first 4 MiB."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "image"
            path.write_bytes(image)
            with self.image_format.open(ImageFile.open(path)) as source:
                source.info()
                for count, extent in enumerate(source.extents()):
                    assert 0 <= extent.offset < extent.end <= source.size
                    if count > 10_000:
                        break
                buffer = bytearray(min(source.size, _READ_BYTES))
                source.readinto(0, memoryview(buffer))
                return bytes(buffer)

    def assert_bounded(self, image: bytes) -> None:
        """A typed error or bytes, soon."""
        started = time.process_time()
        error: HyperError | None = None
        try:
            self.use(image)
        except HyperError as exc:
            error = exc
        assert error is None or (error.message and error.reason not in {"INTERNAL", "UNEXPECTED_EXCEPTION"})
        assert time.process_time() - started < _SECONDS

    def opened(self, sample: str, directory: Path) -> tuple[Any, bytes]:
        image, content = self.samples[sample]
        (directory / "image").write_bytes(image)
        return self.image_format.open(ImageFile.open(directory / "image")), content

    def test_the_content_is_read_right(self, sample: str, tmp_path: Path) -> None:
        """In one piece, by pieces of any size, and by extents. Mend: compare your tables with the format's
        description."""
        source, content = self.opened(sample, tmp_path)
        with source:
            whole = bytearray(b"\xa5" * source.size)
            source.readinto(0, memoryview(whole))
            assert bytes(whole) == content
            for offset in range(0, len(content), 77_777):
                buffer = bytearray(min(77_777, len(content) - offset))
                source.readinto(offset, memoryview(buffer))
                assert bytes(buffer) == content[offset : offset + len(buffer)]

    def test_extents_cover_the_disk_and_zero_means_zero(self, sample: str, tmp_path: Path) -> None:
        """From any start. Mend: call only what is not stored, or marked zero, ZERO."""
        source, content = self.opened(sample, tmp_path)
        with source:
            third = len(content) // 3 + 1
            for start, length in ((0, len(content)), (third, third), (len(content) - 1, 1), (len(content), 0)):
                at = start
                for extent in source.extents(start, length):
                    assert extent.offset == at
                    assert extent.length > 0
                    if extent.kind == ExtentKind.ZERO:
                        assert not any(content[at : extent.end])
                    at = extent.end
                assert at == start + length

    def test_file_ranges_lead_to_the_same_bytes(self, sample: str, tmp_path: Path) -> None:
        """Mend: offsets are in the file, not in the window; None for what is not stored as it is."""
        source, content = self.opened(sample, tmp_path)
        with source:
            for extent in source.extents():
                if extent.kind != ExtentKind.DATA:
                    continue
                found = source.file_ranges(extent.offset, extent.length)
                if found is not None:
                    parts = [os.pread(r.fd, r.length, r.file_offset) for r in found]
                    assert b"".join(parts) == content[extent.offset : extent.end]

    def test_threads_may_read_at_once(self, sample: str, tmp_path: Path) -> None:
        """Mend: positional reads; no shared decompressor without a lock."""
        source, content = self.opened(sample, tmp_path)
        with source, ThreadPoolExecutor(8) as pool:
            length = min(5_000, len(content))

            def read(number: int) -> bool:
                offset = number * 40_009 % (len(content) - length + 1)
                buffer = bytearray(length)
                source.readinto(offset, memoryview(buffer))
                return bytes(buffer) == content[offset : offset + length]

            assert all(pool.map(read, range(200)))

    def test_reading_past_the_end_is_out_of_range(self, sample: str, tmp_path: Path) -> None:
        """Mend: compare with the virtual size first."""
        source, _ = self.opened(sample, tmp_path)
        with source:
            for offset, length in ((source.size, 1), (source.size - 1, 2), (-1, 1)):
                with pytest.raises(OutOfRange):
                    source.readinto(offset, memoryview(bytearray(length)))
                with pytest.raises(OutOfRange):
                    list(source.extents(offset, length))

    def test_info_names_format_and_size(self, sample: str, tmp_path: Path) -> None:
        source, content = self.opened(sample, tmp_path)
        with source:
            assert source.info()["format"] == self.image_format.name
            assert source.info()["virtual_size"] == len(content) == source.size

    def test_its_images_are_recognised_and_other_files_are_not(self, sample: str) -> None:
        """Mend: 100 for the magic number, else 0; never raise, however short the head."""
        image = self.samples[sample][0]
        assert self.image_format.probe(image[:PROBE_BYTES], image[-512:], len(image)) == 100
        for head in (b"", b"\0", b"Q", b"QFI\xfb", bytes(4096), b"\xff" * 4096, b"PK\x03\x04" + bytes(500)):
            assert self.image_format.probe(head, head[-512:], len(head)) == 0

    def test_writing_is_refused_with_what_to_write_instead(self, tmp_path: Path) -> None:
        with ImageFile.create(tmp_path / "new") as file, pytest.raises(Unsupported) as caught:
            self.image_format.create(file, 1 << 20)
        assert caught.value.reason == "FORMAT_READ_ONLY"
        assert "qcow2" in caught.value.message

    def test_closing_releases_the_file_also_when_opening_fails(self, sample: str, tmp_path: Path) -> None:
        """Mend: close in `close`, and in `open` when that fails."""
        before = len(os.listdir("/proc/self/fd"))
        source, _ = self.opened(sample, tmp_path)
        source.close()
        source.close()
        (tmp_path / "other").write_bytes(bytes(100_000))
        with pytest.raises(HyperError):
            self.image_format.open(ImageFile.open(tmp_path / "other"))
        assert len(os.listdir("/proc/self/fd")) == before

    def test_an_unknown_option_is_refused(self, sample: str, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(self.samples[sample][0])
        for options, reason in (({"no_such": "1"}, "OPTION_UNKNOWN"), ({"chain": "maybe"}, "OPTION_INVALID")):
            with pytest.raises(HyperError) as caught:
                self.image_format.open(ImageFile.open(tmp_path / "image"), options)
            assert caught.value.reason == reason

    def test_truncation_gives_a_typed_error_and_never_wrong_bytes(self, sample: str) -> None:
        """Wherever the file was cut. Mend: check every offset and size against the file before use."""
        image, content = self.samples[sample]
        step = max(512, len(image) // 200 // 512 * 512)
        cuts = {0, 1, 3, 4, 15, 16, 47, 48, 63, 64, 135, 136, 511, len(image) - 1} | set(range(512, len(image), step))
        for cut in sorted(c for c in cuts if 0 <= c < len(image)):
            try:
                found = self.use(image[:cut])
            except MalformedImage:
                continue
            assert found == content[:_READ_BYTES], f"cut at {cut} of {len(image)} reads as other bytes"

    @_fuzz
    @given(data=st.data())
    def test_any_damage_gives_a_typed_error_or_bytes_in_bounded_time(self, data: st.DataObject) -> None:
        """Damage mostly where the structures are: the first and last KiB, then anywhere."""
        image = bytearray(self.samples[data.draw(st.sampled_from(list(self.samples)))][0])
        near = st.integers(0, min(1023, len(image) - 1))
        far = near.map(lambda at: len(image) - 1 - at) if self.tail_magic else near
        place = st.one_of(near, far, st.integers(0, len(image) - 1))
        word = st.one_of(
            st.binary(min_size=1, max_size=8),
            st.integers(0, 2**64 - 1).map(lambda n: n.to_bytes(8, "big")),
            st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "little")),
        )
        for at, value in data.draw(st.lists(st.tuples(place, word), min_size=1, max_size=3)):
            image[at : at + len(value)] = value[: len(image) - at]
        self.assert_bounded(bytes(image))
