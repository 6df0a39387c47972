"""What we write, read by a second independent reader (dissect.hypervisor)."""

from __future__ import annotations

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vpc import VpcFormat

vhd = pytest.importorskip(
    "dissect.hypervisor.disk.vhd", reason="dissect.hypervisor is missing; `pip install dissect.hypervisor` brings it"
)
SIZE = (9 << 20) + 512 * 3


@pytest.mark.peer
@pytest.mark.parametrize("options", [{}, {"subformat": "fixed"}, {"force_size": "on"}, {"block_size": "512K"}])
def test_dissect_reads_what_went_in(tmp_path, sample, options):
    data = sample(SIZE)
    with ImageFile.create(tmp_path / "a.vhd") as file:
        sink = VpcFormat().create(file, SIZE, options)
        sink.write(0, data[: 1 << 20])
        sink.write(3 << 20, data[3 << 20 :])
        sink.finish()
    want = data[: 1 << 20] + bytes(2 << 20) + data[3 << 20 :]
    with (tmp_path / "a.vhd").open("rb") as image:
        assert vhd.VHD(image).read(SIZE) == want
