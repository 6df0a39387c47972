"""Parents of images: plain files beside them, no circles, no endless chains, no guessed formats."""

from __future__ import annotations

import os

import pytest
from hypersdk.data.backing import MAX_CHAIN, backing_format, backing_refusal, open_parent
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, MalformedImage, NotFound, PermissionDenied


@pytest.fixture
def child(tmp_path):
    (tmp_path / "child").write_bytes(b"c")
    (tmp_path / "parent").write_bytes(b"p")
    with ImageFile.open(tmp_path / "child") as file:
        yield file


def test_a_parent_is_opened_beside_its_child_and_closed_with_it(child):
    parent, seen = open_parent(child, "parent", (), structure="locator", reason="IMAGE_CHAIN_IMPOSSIBLE")
    assert parent.pread(0, 1) == b"p"
    status = os.fstat(child.fileno())
    assert seen == ((status.st_dev, status.st_ino),)
    child.close()
    assert parent.fileno() == -1


@pytest.mark.parametrize(("name", "error"), [("gone", NotFound), ("../parent", PermissionDenied)])
def test_parents_that_are_not_plain_files_beside_it_are_refused(child, name, error):
    with pytest.raises(error, match="locator"):
        open_parent(child, name, (), structure="locator", reason="IMAGE_CHAIN_IMPOSSIBLE")


def test_a_file_is_not_its_own_parent_by_any_name(child, tmp_path):
    os.link(tmp_path / "child", tmp_path / "alias")
    for name in ("child", "alias"):
        with pytest.raises(MalformedImage, match="circle") as caught:
            open_parent(child, name, (), structure="locator", reason="IMAGE_CHAIN_IMPOSSIBLE")
        assert caught.value.reason == "IMAGE_CHAIN_IMPOSSIBLE"


def test_a_circle_over_several_files_is_found(child):
    parent, seen = open_parent(child, "parent", (), structure="locator", reason="IMAGE_CHAIN_IMPOSSIBLE")
    with parent, pytest.raises(MalformedImage) as caught:
        open_parent(parent, "child", seen, structure="backing file", reason="BACKING_CHAIN_LOOP")
    assert caught.value.reason == "BACKING_CHAIN_LOOP"


def test_a_chain_has_an_end(child):
    above = tuple((0, number) for number in range(MAX_CHAIN - 2))
    assert open_parent(child, "parent", above, structure="locator", reason="IMAGE_CHAIN_IMPOSSIBLE")[1][:-1] == above
    with pytest.raises(MalformedImage, match=f"longer than {MAX_CHAIN} files"):
        open_parent(child, "parent", (*above, (0, MAX_CHAIN)), structure="locator", reason="IMAGE_CHAIN_IMPOSSIBLE")


def test_the_format_is_what_the_image_says_before_what_the_user_says_and_never_guessed(child):
    assert backing_format(child, "parent", "raw", "qcow2") == "raw"
    assert backing_format(child, "parent", "", "qcow2") == "qcow2"
    with pytest.raises(FailedPrecondition, match="backing_fmt=FORMAT") as caught:
        backing_format(child, "parent", "", "")
    assert caught.value.reason == "BACKING_FORMAT_UNKNOWN"


def test_a_refusal_names_the_parent_and_the_option_that_helps(child):
    error = backing_refusal(child, "parent", "raw")
    assert (error.reason, dict(error.metadata)) == ("IMAGE_HAS_PARENT", {"parent": "parent", "parent_format": "raw"})
    assert "chain=on" in error.message
