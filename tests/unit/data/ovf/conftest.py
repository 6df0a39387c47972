"""Archives for the OVF tests: built with Python's tarfile where it can, patched by hand where it would refuse."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypersdk.data.imagefile import ImageFile


@pytest.fixture
def pack() -> Callable[..., bytes]:
    """A tar archive of (name, data); keywords set attributes of every member's TarInfo."""

    def build(*members: tuple[str, bytes], tar_format: int = tarfile.USTAR_FORMAT, **attributes: object) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                for key, value in attributes.items():
                    setattr(info, key, value)
                tar.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return build


@pytest.fixture
def image_file(tmp_path) -> Callable[..., ImageFile]:
    """An open ImageFile with that content."""
    opened: list[ImageFile] = []

    def make(data: bytes, name: str = "vm.ova") -> ImageFile:
        (tmp_path / name).write_bytes(data)
        opened.append(ImageFile.open(tmp_path / name))
        return opened[-1]

    yield make
    for file in opened:
        file.close()
