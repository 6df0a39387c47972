"""Archives that we write, read by others: Python's tarfile and tar itself."""

import io
import shutil
import subprocess
import tarfile

import pytest
from hypersdk.data.ovf.archive import parse_header, read_members
from hypersdk.data.ovf.tar import TarStream, header, stream_size
from hypersdk.errors import FailedPrecondition, InvalidArgument

FILES = {"vm.ovf": b"<x/>", "disk.vmdk": b"d" * 5000, "empty.iso": b"", "whole.bin": b"w" * 1024}


@pytest.fixture
def archive():
    out = io.BytesIO()
    stream = TarStream(out.write, mtime=1_700_000_000)
    for name, data in FILES.items():
        stream.begin(name, len(data))
        for at in range(0, len(data), 700):
            stream.send(memoryview(data)[at : at + 700])
    stream.end()
    return out.getvalue()


def test_python_reads_every_member(archive):
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errorlevel=2, ignore_zeros=False) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == FILES
        assert all(m.isreg() and m.mode == 0o644 and m.mtime == 1_700_000_000 for m in tar.getmembers())


@pytest.mark.peer
def test_tar_lists_and_unpacks_it_without_a_word(archive, tmp_path):
    if shutil.which("tar") is None:
        pytest.skip("tar is missing; Debian has it in tar")
    (tmp_path / "a.ova").write_bytes(archive)
    listed = subprocess.run(["tar", "tvf", tmp_path / "a.ova"], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == list(FILES)
    subprocess.run(["tar", "xf", tmp_path / "a.ova", "-C", tmp_path], check=True)
    assert listed.stderr == ""
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES


def test_we_read_what_we_write(archive, image_file):
    assert {m.name: archive[m.offset : m.offset + m.size] for m in read_members(image_file(archive)).values()} == FILES


def test_the_size_is_known_before(archive):
    assert stream_size([len(data) for data in FILES.values()]) == len(archive)


@pytest.mark.parametrize("size", [0, 1, (1 << 33) - 1, 1 << 33, 16 << 40])
def test_a_header_is_one_block_whatever_the_size(size):
    block = header("disk.vmdk", size)
    assert len(block) == 512
    assert parse_header(block).size == size
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == size


@pytest.mark.parametrize("name", ["", "..", "a/b", "/a", "a\\b", "a\0b", "x" * 101])
def test_names_that_we_would_refuse_are_not_written(name):
    with pytest.raises(InvalidArgument):
        header(name, 1)


def test_a_name_is_given_once(archive):
    stream = TarStream(io.BytesIO().write)
    stream.begin("a", 0)
    with pytest.raises(InvalidArgument):
        stream.begin("a", 0)


def test_a_member_that_shrank_or_grew_is_no_member():
    stream = TarStream(io.BytesIO().write)
    stream.begin("a", 3)
    with pytest.raises(FailedPrecondition):
        stream.send(b"1234")
    stream.send(b"12")
    with pytest.raises(FailedPrecondition):
        stream.end()
