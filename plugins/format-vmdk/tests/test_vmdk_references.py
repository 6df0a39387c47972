"""Which other files an image may name: plain names of regular files beside it, and parents only when asked."""

from __future__ import annotations

import os

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, HyperError, MalformedImage, NotFound, PermissionDenied, Unsupported
from hypersdk_format_vmdk import VmdkFormat


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret", "sub/secret", "..", ".", "a\\b", "nbd://host/x", "json:{}", "file:///x", "C:\\x"],
)
@pytest.mark.parametrize("kind", ["FLAT", "SPARSE", "VMFS", "VMFSSPARSE", "SESPARSE"])
def test_extents_that_are_not_plain_names_are_refused(tmp_path, read, descriptor, name, kind):
    (tmp_path / "secret").write_bytes(bytes(512))
    work = tmp_path / "work"
    work.mkdir()
    image = work / "a.vmdk"
    image.write_bytes(descriptor("monolithicFlat", f'RW 1 {kind} "{name}"'))
    with pytest.raises(PermissionDenied) as caught:
        read(image)
    assert caught.value.reason == "REFERENCE_REFUSED"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\\b"])
def test_an_embedded_descriptor_that_names_a_path_is_refused(tmp_path, read, descriptor, hosted, name):
    text = descriptor("monolithicSparse", f'RW 128 SPARSE "{name}"')
    (tmp_path / "a.vmdk").write_bytes(hosted(128, {}, text=text))
    with pytest.raises(PermissionDenied):
        read(tmp_path / "a.vmdk")


def test_links_fifos_devices_and_directories_are_refused_without_hanging(tmp_path, read, descriptor):
    (tmp_path / "secret").write_bytes(bytes(512))
    (tmp_path / "link").symlink_to("secret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder"):
        (tmp_path / "a.vmdk").write_bytes(descriptor("monolithicFlat", f'RW 1 FLAT "{name}" 0'))
        with pytest.raises(HyperError) as caught:
            read(tmp_path / "a.vmdk")
        assert not isinstance(caught.value, NotFound)


def test_a_missing_extent_is_named(tmp_path, read, descriptor):
    (tmp_path / "a.vmdk").write_bytes(descriptor("monolithicFlat", 'RW 1 FLAT "gone.vmdk" 0'))
    with pytest.raises(NotFound, match="gone"):
        read(tmp_path / "a.vmdk")


@pytest.mark.parametrize("line", ['RW 1 VMFSRDM "a"', 'RW 1 VMFSRAW "a"', "NOACCESS 1 ZERO", 'RW 1 MYSTERY "a"'])
def test_devices_and_unknown_extents_are_refused(tmp_path, read, descriptor, line):
    (tmp_path / "a").write_bytes(bytes(512))
    (tmp_path / "a.vmdk").write_bytes(descriptor("custom", line))
    with pytest.raises(Unsupported):
        read(tmp_path / "a.vmdk")


@pytest.fixture
def delta(tmp_path, descriptor, hosted):
    """Writes a delta of `parent` with the given parent CID."""

    def make(name="top.vmdk", parent="base.vmdk", parent_cid="12345678", cid="12345678"):
        text = descriptor("monolithicSparse", 'RW 128 SPARSE "x.vmdk"', extra=f'parentFileNameHint="{parent}"', cid=cid)
        text = text.replace(b"parentCID=ffffffff", f"parentCID={parent_cid}".encode())
        (tmp_path / name).write_bytes(hosted(128, {}, text=text))
        return tmp_path / name

    return make


def test_a_delta_is_refused_unless_the_chain_is_asked_for(read, delta):
    with pytest.raises(FailedPrecondition) as caught:
        read(delta())
    assert caught.value.reason == "IMAGE_HAS_PARENT"
    assert caught.value.metadata["parent"] == "base.vmdk"


def test_chain_off_opens_a_delta_for_information_alone(delta):
    with VmdkFormat().open(ImageFile.open(delta()), {"chain": "off"}) as source:
        assert source.info()["backing_file"] == "base.vmdk"
        with pytest.raises(FailedPrecondition):
            source.extents()
        with pytest.raises(FailedPrecondition):
            source.readinto(0, memoryview(bytearray(512)))
        with pytest.raises(FailedPrecondition):
            source.file_ranges(0, 512)


@pytest.mark.parametrize("parent", ["../base.vmdk", "/etc/passwd", "json:{}"])
def test_a_parent_that_is_a_path_is_refused_even_with_the_chain(read, delta, parent):
    with pytest.raises(PermissionDenied):
        read(delta(parent=parent), chain="on")


def test_a_parent_that_has_changed_since_is_refused(read, delta, tmp_path, descriptor, hosted):
    text = descriptor("monolithicSparse", 'RW 128 SPARSE "base.vmdk"', cid="0badcafe")
    (tmp_path / "base.vmdk").write_bytes(hosted(128, {}, text=text))
    with pytest.raises(FailedPrecondition) as caught:
        read(delta(), chain="on")
    assert caught.value.reason == "PARENT_MISMATCH"


def test_a_chain_in_a_circle_is_refused(read, delta):
    delta("base.vmdk", parent="top.vmdk")
    with pytest.raises(MalformedImage) as caught:
        read(delta("top.vmdk", parent="base.vmdk"), chain="on")
    assert caught.value.reason == "IMAGE_CHAIN_IMPOSSIBLE"


def test_a_parent_cid_without_a_name_is_refused(read, delta):
    path = delta()
    path.write_bytes(path.read_bytes().replace(b"parentFileNameHint", b"qarentFileNameHint"))
    with pytest.raises(FailedPrecondition):
        read(path)
    with pytest.raises(MalformedImage):
        read(path, chain="on")


def test_a_shorter_parent_reads_as_zeros_behind_its_end(read, delta, tmp_path, descriptor):
    (tmp_path / "flat").write_bytes(b"p" * 512 * 3)
    (tmp_path / "base.vmdk").write_bytes(descriptor("monolithicFlat", 'RW 3 FLAT "flat" 0'))
    assert read(delta(), chain="on") == b"p" * 1536 + bytes(65536 - 1536)


def test_one_extent_of_a_disk_is_not_taken_for_a_disk(tmp_path, read, hosted, cowd, sesparse):
    for image in (hosted(128, {}), cowd(128, {}), sesparse(128, {})):
        (tmp_path / "a-s001.vmdk").write_bytes(image)
        with pytest.raises(FailedPrecondition) as caught:
            read(tmp_path / "a-s001.vmdk")
        assert caught.value.reason == "EXTENT_WITHOUT_DESCRIPTOR"
        assert VmdkFormat().check(ImageFile.open(tmp_path / "a-s001.vmdk")).corruptions == 0


@pytest.mark.parametrize("options", [{"chain": "perhaps"}, {"snapshot": "1"}])
def test_unknown_options_of_open_are_refused(tmp_path, options, descriptor):
    (tmp_path / "a.vmdk").write_bytes(descriptor("custom", "RW 1 ZERO"))
    with pytest.raises(HyperError, match="option"):
        VmdkFormat().open(ImageFile.open(tmp_path / "a.vmdk"), options)


def test_wrong_options_of_open_close_the_file(tmp_path, descriptor):
    (tmp_path / "a.vmdk").write_bytes(descriptor("custom", "RW 1 ZERO"))
    file = ImageFile.open(tmp_path / "a.vmdk")
    with pytest.raises(HyperError):
        VmdkFormat().open(file, {"chain": "perhaps"})
    assert file.fileno() == -1
