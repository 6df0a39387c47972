"""What we write, read by a second independent reader (dissect.hypervisor)."""

from __future__ import annotations

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vdi import VdiFormat

vdi = pytest.importorskip(
    "dissect.hypervisor.disk.vdi", reason="dissect.hypervisor is missing; `pip install dissect.hypervisor` brings it"
)
SIZE = (9 << 20) + 512 * 3
MIB = 1 << 20


@pytest.mark.peer
@pytest.mark.parametrize("static", ["off", "on"])
def test_dissect_reads_what_went_in(tmp_path, sample, static):
    """Block by block, because version 3.21 reads on into the next block of the file where a read spans two."""
    data = sample(SIZE)
    with ImageFile.create(tmp_path / "a.vdi") as file:
        sink = VdiFormat().create(file, SIZE, {"static": static})
        sink.write(0, data[:MIB])
        sink.write(3 * MIB, data[3 * MIB :])
        sink.finish()
    want = data[:MIB] + bytes(2 * MIB) + data[3 * MIB :]
    with (tmp_path / "a.vdi").open("rb") as image:
        stream = vdi.VDI(image).open()
        for at in range(0, SIZE, MIB):
            stream.seek(at)
            assert stream.read(min(MIB, SIZE - at)) == want[at : at + MIB]
