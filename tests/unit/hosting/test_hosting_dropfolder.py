"""The watched folder: each whole wheel once, however it comes."""

import asyncio
import os

import pytest
from hosting_fakes import eventually
from hypersdk.errors import InvalidArgument
from hypersdk_kernel.hosting.dropfolder import DropFolder


class Installed(list):
    """Remembers what it was given; refuses what is not `whole`."""

    async def __call__(self, path):
        content = path.read_text()
        if not content.startswith("whole"):
            raise InvalidArgument("half a wheel", reason="WHEEL_INVALID")
        self.append((path.name, content))


@pytest.fixture
def installed():
    return Installed()


def folder_of(tmp_path, installed, **kw):
    return DropFolder(tmp_path, installed, **kw)


async def test_each_wheel_is_installed_once_and_again_when_its_content_is_another(tmp_path, installed):
    folder = folder_of(tmp_path, installed)
    wheel = tmp_path / "a.whl"
    wheel.write_text("whole 1")
    (tmp_path / "a.whl.part").write_text("whole")
    (tmp_path / "b.whl").mkdir()
    await folder.scan()
    await folder.scan()
    os.utime(wheel, ns=(1, 1))
    await folder.scan()
    assert installed == [("a.whl", "whole 1")]
    wheel.write_text("whole 22")
    await folder.scan()
    assert installed[1:] == [("a.whl", "whole 22")]


async def test_a_half_written_wheel_is_tried_again_when_it_has_grown(tmp_path, installed):
    folder = folder_of(tmp_path, installed)
    (tmp_path / "a.whl").write_text("hal")
    await folder.scan()
    await folder.scan()
    assert installed == []
    (tmp_path / "a.whl").write_text("whole")
    await folder.scan()
    assert installed == [("a.whl", "whole")]


async def test_a_renamed_file_is_noticed_at_once_and_what_nobody_told_of_by_the_rescan(tmp_path, installed):
    watching = asyncio.create_task(folder_of(tmp_path, installed, rescan_s=0.2).run())
    try:
        await asyncio.sleep(0)
        (tmp_path / "x.part").write_text("whole")
        (tmp_path / "x.part").rename(tmp_path / "x.whl")
        await eventually(lambda: installed == [("x.whl", "whole")])
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
