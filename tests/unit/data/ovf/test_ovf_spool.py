"""Files that are compressed as a whole: unpacked exactly, bombs stopped at what is declared and 1 MiB."""

import gzip
import os
import zlib

import pytest
from hypersdk.data.ovf.descriptor import FileReference, OvfDisk
from hypersdk.data.ovf.spool import unpack, unpacked_limit
from hypersdk.errors import MalformedImage

MIB = 1 << 20


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(5 * MIB), os.urandom(3 * MIB + 17), b"abc" * MIB + bytes(2 * MIB) + b"end"],
    ids=["empty", "one byte", "zeros", "random", "mixed"],
)  # fmt: skip
def test_the_content_comes_out(image_file, data):
    with unpack(image_file(gzip.compress(data)), len(data)) as out:
        assert out.pread(0, out.size) == data


def test_members_behind_one_another_are_one_file(image_file):
    with unpack(image_file(gzip.compress(b"one") + gzip.compress(b"two")), 100) as out:
        assert out.pread(0, out.size) == b"onetwo"


def test_zeros_take_no_space(image_file):
    with unpack(image_file(gzip.compress(bytes(64 * MIB))), 64 * MIB) as out:
        assert out.size == 64 * MIB
        assert out.allocated_bytes < MIB


def test_a_bomb_stops_at_the_limit(image_file):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"A" * MIB) for _ in range(64)) + packer.flush()
    with pytest.raises(MalformedImage) as caught:
        unpack(image_file(bomb), 8 * MIB)
    assert caught.value.reason == "OVF_GZIP_TOO_LARGE"


def test_one_byte_more_than_the_limit_is_too_many(image_file):
    with pytest.raises(MalformedImage):
        unpack(image_file(gzip.compress(b"x" * 1001)), 1000)


def test_what_does_not_unpack_is_malformed(image_file):
    good = gzip.compress(os.urandom(2 * MIB))
    wrong_sum = bytearray(good)
    wrong_sum[-6] ^= 1
    for bad in (b"", b"no gzip", good[:-1], good[: len(good) // 2], bytes(wrong_sum), good + b"trailing"):
        with pytest.raises(MalformedImage) as caught:
            unpack(image_file(bad), 4 * MIB)
        assert caught.value.reason == "OVF_GZIP_MALFORMED"


def test_the_limit_is_what_the_package_declares_and_one_mib():
    def limit(size, capacity):
        reference = FileReference("f", "d.vmdk.gz", "gzip", 0, size)
        return unpacked_limit(OvfDisk("d", reference, capacity), reference)

    assert limit(0, -1) == MIB
    assert limit(5000, -1) == 5000 + MIB
    assert limit(5000, 64 * MIB) == 65 * MIB + MIB
