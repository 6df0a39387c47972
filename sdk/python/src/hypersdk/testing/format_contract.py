"""ImageFormatContract: what every implementation of `hypersdk.plugin.ImageFormat` must keep.

Not here: whether other software reads the images; that takes other software (qemu-img) and belongs into a
plugin's own tests.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images.partial import PartialTarget
from hypersdk.data.pipeline import CopyHooks, CopyOptions, copy
from hypersdk.data.source import BlockSource
from hypersdk.errors import HyperError, InvalidArgument, OutOfRange, Unsupported
from hypersdk.plugin import ImageFormat
from hypersdk.plugin.image_format import PROBE_BYTES
from hypersdk.testing.blocks import FaultySource, PatternSource
from hypersdk.testing.faults import SyscallFaults, spread

MIB = 1 << 20
_LAYOUTS: dict[str, tuple[int, list[tuple[int, int]]]] = {
    "empty disk": (8 * MIB, []),
    "full disk": (2 * MIB, [(0, 2 * MIB)]),
    "data at both ends": (8 * MIB, [(0, 65536), (8 * MIB - 65536, 65536)]),
    "small islands": (8 * MIB, [(n * 300_000, 5000) for n in range(20)]),
    "one sector": (512, [(0, 512)]),
    "not a multiple of a cluster": (3 * MIB + 512 * 7, [(MIB, MIB), (3 * MIB, 512 * 7)]),
}


class _Stop(Exception):
    """Ends a copy in the middle, as a kill does."""


def _space(folder: Path) -> int:
    """Bytes that all files in `folder` take; the holes of a sparse file count nothing."""
    found = [path.stat() for path in folder.iterdir()]
    return sum(min(status.st_size, status.st_blocks * 512) for status in found)


class ImageFormatContract:
    """Subclass it and give:

    image_format   fixture: the format
    option_sets    class attribute: the sets of create options to run everything with
    claims_all     class attribute: True for a format without a magic number (raw)
    """

    option_sets: ClassVar[list[dict[str, str]]] = [{}]
    claims_all: ClassVar[bool] = False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "options" in metafunc.fixturenames:
            sets = self.option_sets
            metafunc.parametrize("options", sets, ids=[",".join(f"{k}={v}" for k, v in s.items()) or "-" for s in sets])

    @pytest.fixture
    def image_format(self) -> ImageFormat:
        raise NotImplementedError("give an `image_format` fixture in the subclass")

    def write(self, image_format: ImageFormat, path: Path, source: BlockSource, options: Mapping[str, str]) -> None:
        partial = PartialTarget(path)
        file, _ = partial.begin({}, resume=False)
        facts = copy(source, image_format.create(file, source.size, options)).sink
        assert isinstance(facts.get("allocated_bytes"), int), "finish() must tell allocated_bytes"
        partial.publish()

    def read(self, image_format: ImageFormat, path: Path, size: int) -> bytes:
        """The first `size` bytes; whatever the format added by rounding must be zeros."""
        with image_format.open(ImageFile.open(path)) as source:
            assert 0 <= source.size - size < MIB, "the virtual size is not what was asked for"
            buffer = bytearray(source.size)
            source.readinto(0, memoryview(buffer))
            assert not any(buffer[size:])
            return bytes(buffer[:size])

    def sample(self, image_format: ImageFormat, path: Path, options: Mapping[str, str]) -> PatternSource:
        source = PatternSource(4 * MIB, [(0, 100_000), (2 * MIB, MIB)])
        self.write(image_format, path, source, options)
        return source

    @pytest.mark.parametrize("layout", _LAYOUTS)
    def test_what_was_written_is_read_back(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str], layout: str
    ) -> None:
        """Mend: compare your tables with the specification; start with the failing layout's last bytes."""
        source = PatternSource(*_LAYOUTS[layout])
        self.write(image_format, tmp_path / "image", source, options)
        assert self.read(image_format, tmp_path / "image", source.size) == source.content()

    def test_extents_cover_the_disk_and_zero_means_zero(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """Extents come in order, without gaps or overlaps, from any start. Mend: end each at the next one's
        start; call only what is unallocated or marked zero ZERO."""
        self.sample(image_format, tmp_path / "image", options)
        with image_format.open(ImageFile.open(tmp_path / "image")) as source:
            for start, length in ((0, source.size), (12345, 3 * MIB), (source.size - 1, 1), (source.size, 0)):
                at = start
                for extent in source.extents(start, length):
                    assert extent.offset == at
                    assert extent.length > 0
                    if extent.kind == ExtentKind.ZERO:
                        buffer = bytearray(extent.length)
                        source.readinto(extent.offset, memoryview(buffer))
                        assert not any(buffer)
                    at = extent.end
                assert at == start + length

    def test_holes_cost_no_space(self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]) -> None:
        """A disk of 64 GiB that holds 64 KiB makes a small file. Mend: leave out units that were never
        written."""
        source = PatternSource(64 << 30, [(32 << 30, 65536)])
        self.write(image_format, tmp_path / "image", source, options)
        assert _space(tmp_path) < 16 * MIB

    def test_reads_of_any_offset_and_length_agree(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """Mend: split each read at your units' borders; copy the right part of the first and the last
        unit."""
        content = self.sample(image_format, tmp_path / "image", options).content()
        with image_format.open(ImageFile.open(tmp_path / "image")) as source:
            for offset, length in ((0, 1), (511, 2), (65535, 2), (99_999, 70_000), (2 * MIB - 1, MIB + 2), (7, 0)):
                buffer = bytearray(length)
                source.readinto(offset, memoryview(buffer))
                assert bytes(buffer) == content[offset : offset + length]

    def test_threads_may_read_at_once(self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]) -> None:
        """Mend: positional reads only; no shared buffers or decompressors without a lock or thread-local."""
        content = self.sample(image_format, tmp_path / "image", options).content()
        with image_format.open(ImageFile.open(tmp_path / "image")) as source, ThreadPoolExecutor(8) as pool:

            def read(number: int) -> bool:
                offset = number * 40_009 % (4 * MIB - 50_000)
                buffer = bytearray(50_000)
                source.readinto(offset, memoryview(buffer))
                return bytes(buffer) == content[offset : offset + 50_000]

            assert all(pool.map(read, range(200)))

    def test_reading_past_the_end_is_out_of_range(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """Mend: compare with the virtual size first and raise OutOfRange."""
        self.sample(image_format, tmp_path / "image", options)
        with image_format.open(ImageFile.open(tmp_path / "image")) as source:
            for offset, length in ((source.size, 1), (source.size - 1, 2), (-1, 1)):
                with pytest.raises(OutOfRange):
                    source.readinto(offset, memoryview(bytearray(length)))
            with pytest.raises(OutOfRange):
                list(source.extents(source.size - 1, 2))

    def test_info_names_format_and_size(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """Mend: give `format` and `virtual_size` at least."""
        self.sample(image_format, tmp_path / "image", options)
        with image_format.open(ImageFile.open(tmp_path / "image")) as source:
            info = source.info()
            assert info["format"] == image_format.name
            assert info["virtual_size"] == source.size

    def test_its_own_images_are_recognised(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """Mend: `probe` returns 100 for the magic number; raw, which has none, returns 1."""
        self.sample(image_format, tmp_path / "image", options)
        data = (tmp_path / "image").read_bytes()
        score = image_format.probe(data[:PROBE_BYTES], data[-512:], len(data))
        assert score == 1 if self.claims_all else score >= 50

    def test_other_files_are_not_claimed(self, image_format: ImageFormat) -> None:
        """Mend: return 0 unless the magic number is there; never raise, however short the head."""
        for head in (b"", b"\0", b"Q", b"K", b"#", bytes(4096), b"\xff" * 4096, b"PK\x03\x04" + bytes(500)):
            assert image_format.probe(head, head[-512:], len(head)) == (1 if self.claims_all else 0)

    def test_an_interrupted_image_is_gone_on_with(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """A process dies after a checkpoint and after writing on; another goes on from the checkpoint's
        state in the same file. Mend: put everything `create(resume=)` needs into the state; drop what came
        after it."""
        source = PatternSource(12 * MIB, [(0, 3 * MIB), (5 * MIB, 6 * MIB)])
        saved: list[tuple[int, dict[str, object]]] = []
        path = tmp_path / "image"
        settings = CopyOptions(threads=1, checkpoint_bytes=1, checkpoint_seconds=0.0)

        def stop_later() -> None:
            if len(saved) >= 3:
                raise _Stop

        partial = PartialTarget(path)
        file, _ = partial.begin({}, resume=True)
        sink = image_format.create(file, source.size, options)
        try:
            hooks = CopyHooks(checkpoint=lambda at, state: saved.append((at, state)), check=stop_later)
            copy(source, sink, options=settings, hooks=hooks)
        except _Stop:
            sink.abort()
        if not saved:
            partial.discard(keep=False)
            pytest.skip("this format cannot resume with these options (its sink's checkpoint is None)")
        offset, state = saved[-2] if len(saved) > 1 else saved[-1]
        partial.save({}, state)
        partial.discard(keep=True)
        partial = PartialTarget(path)
        file, found = partial.begin({}, resume=True)
        sink = image_format.create(file, source.size, options, found)
        copy(source, sink, options=CopyOptions(resume_offset=offset))
        partial.publish()
        assert self.read(image_format, path, source.size) == source.content()

    def test_a_failing_source_leaves_a_file_that_can_be_dropped(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """`abort` is silent and may be repeated. Mend: no I/O that can fail in it, or its errors ignored."""
        failure = HyperError("the source broke")
        source = FaultySource(PatternSource(4 * MIB), 2 * MIB, failure)
        partial = PartialTarget(tmp_path / "image")
        file, _ = partial.begin({}, resume=False)
        sink = image_format.create(file, source.size, options)
        with pytest.raises(HyperError) as caught:
            copy(source, sink)
        assert caught.value is failure
        sink.abort()
        sink.abort()
        partial.discard(keep=False)
        assert os.listdir(tmp_path) == []

    def test_a_fault_at_any_call_of_a_write_publishes_nothing(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """A full disk at each call in turn. Mend: let the OSError pass (or raise one of the tree), never swallow it;
        `finish` returns when everything is on stable storage."""
        source = PatternSource(MIB, [(0, 50_000), (MIB // 2, 200_000)])

        def write(path: Path) -> None:
            partial = PartialTarget(path)
            try:
                file, _ = partial.begin({}, resume=False)
                copy(source, image_format.create(file, source.size, options), options=CopyOptions(threads=1))
                partial.publish()
            except BaseException:
                partial.discard(keep=False)
                raise

        with SyscallFaults(0) as counted:
            write(tmp_path / "image")
        for path in tmp_path.iterdir():
            path.unlink()
        for number in spread(counted.calls, 12):
            published = True
            try:
                with SyscallFaults(number, errno.ENOSPC):
                    write(tmp_path / "image")
            except (HyperError, OSError):
                published = (tmp_path / "image").exists()
            if published:  # the fault hit what does not matter, such as the directory's sync after the rename
                assert self.read(image_format, tmp_path / "image", source.size) == source.content()
            for path in tmp_path.iterdir():
                path.unlink()

    def test_a_truncated_image_is_never_read_as_something_else(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """Wherever the file was cut: the true bytes or a typed error, never others. Mend: check every
        offset and size against the file before use; let ImageFile raise IMAGE_TRUNCATED."""
        if self.claims_all:
            pytest.skip("a format without structure cannot tell that its file was cut")
        content = self.sample(image_format, tmp_path / "image", options).content()
        whole = (tmp_path / "image").read_bytes()
        cuts = {0, 1, 3, 4, 511, 512, 513, 65536, len(whole) // 3, len(whole) // 2, len(whole) - 512, len(whole) - 1}
        for cut in sorted(c for c in cuts if c < len(whole)):
            (tmp_path / "cut").write_bytes(whole[:cut])
            try:
                found = self.read(image_format, tmp_path / "cut", len(content))
            except HyperError:
                continue
            assert found == content, f"cut at {cut} of {len(whole)} reads as other bytes"

    def test_an_unknown_option_is_refused_with_the_known_ones(self, image_format: ImageFormat, tmp_path: Path) -> None:
        """Mend: raise InvalidArgument before writing anything, naming what `create_options` offers."""
        with ImageFile.create(tmp_path / "image") as file:
            with pytest.raises(InvalidArgument) as caught:
                image_format.create(file, MIB, {"no_such_option": "1"})
            for option in image_format.create_options():
                assert option in caught.value.message

    def test_check_finds_no_fault_in_a_fresh_image(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """Mend: the writer or the checker; ask a third party (qemu-img check) which."""
        self.sample(image_format, tmp_path / "image", options)
        with ImageFile.open(tmp_path / "image") as file:
            try:
                report = image_format.check(file)
            except Unsupported:
                pytest.skip("this format has no consistency check")
            assert (report.corruptions, report.leaks) == (0, 0), report.messages

    def test_measure_is_an_upper_bound(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """The space that the file takes; holes of a sparse file count nothing. Mend: count the tables too, and
        assume that nothing compresses."""
        source = self.sample(image_format, tmp_path / "image", options)
        try:
            bound = image_format.measure(source, options)
        except Unsupported:
            pytest.skip("this format cannot measure ahead")
        assert _space(tmp_path) <= bound

    def test_closing_releases_the_file(
        self, image_format: ImageFormat, tmp_path: Path, options: dict[str, str]
    ) -> None:
        """The source takes over the ImageFile. Mend: close it in `close`, and in `open` when that fails."""
        self.sample(image_format, tmp_path / "image", options)
        before = len(os.listdir("/proc/self/fd"))
        source = image_format.open(ImageFile.open(tmp_path / "image"))
        source.close()
        source.close()
        assert len(os.listdir("/proc/self/fd")) == before
