"""What the qcow2 tests share: guest content, images of our own writing, whole reads, and qemu-img."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_qcow2 import Qcow2Format

FORMAT = Qcow2Format()


class Images:
    """Makes and reads images in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.format = FORMAT

    def content(self, size: int, unit: int, seed: int = 0) -> bytes:
        """Mostly zeros, with random and compressible stretches of a few bytes to some dozen units."""
        pick = random.Random(seed)
        data = bytearray(size)
        for _ in range(12 if size else 0):
            offset = pick.randrange(size)
            length = min(size - offset, pick.choice([100, unit, 3 * unit, 40 * unit]))
            text = f"line {offset} of a log, like many others\n".encode()
            random_part = pick.random() < 0.4
            data[offset : offset + length] = (
                pick.randbytes(length) if random_part else (text * (length // len(text) + 1))[:length]
            )
        return bytes(data)

    def write(
        self,
        data: bytes,
        options: Mapping[str, str] | None = None,
        *,
        name: str = "ours.qcow2",
        piece: int = 1 << 20,
        interrupt: Callable[[int], bool] = lambda _: False,
    ) -> Path:
        """An image of `data`, written piece by piece without those that are zeros. Where `interrupt(offset)`, the
        writer takes a checkpoint, writes one more piece, is dropped, and another resumes."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        file = ImageFile.create(path)
        sink = self.format.create(file, len(data), options)
        step = max(piece, sink.granularity)
        for offset in range(0, len(data), step):
            if interrupt(offset):
                state = json.loads(json.dumps(sink.checkpoint()))
                self._put(sink, offset, data[offset : offset + step])
                sink.abort()
                file.close()
                file = ImageFile.create(path, resume=True)
                sink = self.format.create(file, len(data), options, state)
            self._put(sink, offset, data[offset : offset + step])
        facts = sink.finish()
        assert facts["file_bytes"] == path.stat().st_size
        file.close()
        return path

    def _put(self, sink: Any, offset: int, piece: bytes) -> None:
        if piece.count(0) == len(piece):
            sink.zero(offset, len(piece))
        elif sink.encodes:
            sink.write_encoded(offset, sink.encode(offset, piece))
        else:
            sink.write(offset, piece)

    def open(self, path: Path, **options: str) -> Any:
        return self.format.open(ImageFile.open(path), options)

    def read(self, path: Path, **options: str) -> bytes:
        """The whole disk, after its extents were found to cover it and to promise no zeros that are none."""
        with self.open(path, **options) as source:
            buffer = bytearray(source.size)
            source.readinto(0, memoryview(buffer))
            at = 0
            for extent in source.extents():
                assert extent.offset == at
                at = extent.end
                if extent.kind == ExtentKind.ZERO:
                    assert not any(buffer[extent.offset : extent.end])
            assert at == source.size
            return bytes(buffer)

    def check(self, path: Path, *, repair: bool = False) -> Any:
        with ImageFile.open(path, writable=repair) as file:
            return self.format.check(file, repair=repair)


def tool(name: str, *args: str | Path, cwd: Path | None = None) -> str:
    """Run one of QEMU's tools; its standard output. Fails with what it said."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: apt-get install qemu-utils")
    result = subprocess.run([name, *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{name} {args}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


@pytest.fixture
def qemu_img(tmp_path: Path) -> Callable[..., str]:
    """Run qemu-img in the test's directory."""
    return lambda *args: tool("qemu-img", *args, cwd=tmp_path)


@pytest.fixture
def qemu_io(tmp_path: Path) -> Callable[..., str]:
    """Run qemu-io's commands on an image in the test's directory."""

    def run(path: Path, *commands: str) -> str:
        return tool("qemu-io", *[part for command in commands for part in ("-c", command)], path, cwd=tmp_path)

    return run
