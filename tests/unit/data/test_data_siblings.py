"""The further files of an image: hidden until all are complete, then named, the main file last."""

from __future__ import annotations

import os

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images.partial import PartialTarget
from hypersdk.data.siblings import NewSiblings, drop_leftovers
from hypersdk.errors import AlreadyExists, InvalidArgument, PermissionDenied, Unsupported

NAMES = ("x-1.img", "x-2.img", "x-3.img")


@pytest.fixture
def make(tmp_path):
    """A main file in the making, with siblings; the same again stands for another process."""

    def begin(*, resume=False, **policy):
        policy = {"overwrite": False, **policy}
        file = ImageFile.create(tmp_path / ".x.img.partial", resume=resume)
        file.new_siblings = NewSiblings(tmp_path / ".x.img.partial", tmp_path / "x.img", **policy)
        return file

    return begin


def fill(file, names=NAMES):
    for name in names:
        file.create_sibling(name).pwrite(0, name.encode())


def names(folder):
    return sorted(os.listdir(folder))


def test_nothing_has_its_final_name_before_it_is_published_and_all_have_it_then(tmp_path, make):
    file = make()
    fill(file)
    assert all(name.startswith(".x.img.partial") for name in names(tmp_path))
    siblings = file.new_siblings
    assert siblings.names == NAMES
    assert {(tmp_path / hidden).read_text() for hidden in siblings.aliases.values()} == set(NAMES)
    siblings.publish()
    assert not (tmp_path / "x.img").exists()
    (tmp_path / ".x.img.partial").replace(tmp_path / "x.img")
    siblings.tidy()
    assert names(tmp_path) == ["x-1.img", "x-2.img", "x-3.img", "x.img"]
    assert all((tmp_path / name).read_text() == name for name in NAMES)


def test_an_image_in_the_making_is_read_back_through_aliases(tmp_path, make):
    file = make()
    fill(file)
    with ImageFile.open(tmp_path / ".x.img.partial") as reader:
        reader.aliases = file.new_siblings.aliases
        sibling = reader.open_sibling("x-2.img")
        assert sibling.pread(0, 7) == b"x-2.img"
        assert sibling.path.name == "x-2.img"
        with pytest.raises(PermissionDenied):
            reader.open_sibling("../x-2.img")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "nbd:x", "a\0b", "x" * 256])
def test_only_plain_names_are_made(make, name):
    with pytest.raises(PermissionDenied) as caught:
        make().create_sibling(name)
    assert caught.value.reason == "REFERENCE_REFUSED"


@pytest.mark.parametrize("name", ["x.img", "x-1.img"])
def test_neither_the_image_itself_nor_the_same_file_twice_is_made(make, name):
    file = make()
    file.create_sibling("x-1.img")
    with pytest.raises(InvalidArgument) as caught:
        file.create_sibling(name)
    assert caught.value.reason == "SIBLING_INVALID"


def test_a_place_for_one_file_refuses_a_second_one(tmp_path):
    with ImageFile.create(tmp_path / "x.img") as file, pytest.raises(Unsupported) as caught:
        file.create_sibling("x-1.img")
    assert caught.value.reason == "SEVERAL_FILES_UNSUPPORTED"


def test_a_part_of_a_file_makes_none(make):
    with make().window(0) as part, pytest.raises(PermissionDenied):
        part.create_sibling("x-1.img")


def test_an_existing_file_is_kept_unless_it_may_be_overwritten(tmp_path, make):
    (tmp_path / "x-1.img").write_text("precious")
    with make() as file, pytest.raises(AlreadyExists) as caught:
        file.create_sibling("x-1.img")
    assert caught.value.reason == "TARGET_EXISTS"
    (tmp_path / ".x.img.partial").unlink()
    file = make(overwrite=True)
    fill(file)
    assert (tmp_path / "x-1.img").read_text() == "precious"
    file.new_siblings.publish()
    assert (tmp_path / "x-1.img").read_text() == "x-1.img"


def test_a_name_taken_meanwhile_is_kept_and_the_others_are_withdrawn(tmp_path, make):
    file = make()
    fill(file)
    (tmp_path / "x-1.img").write_text("precious")
    with pytest.raises(FileExistsError):
        file.new_siblings.publish()
    file.new_siblings.withdraw()
    file.new_siblings.discard()
    assert names(tmp_path) == [".x.img.partial", "x-1.img"]
    assert (tmp_path / "x-1.img").read_text() == "precious"


def test_an_old_main_file_never_lies_over_new_siblings(tmp_path, make):
    for name in ("x.img", *NAMES):
        (tmp_path / name).write_text("old")
    file = make(overwrite=True)
    fill(file)
    file.new_siblings.publish()  # and here the process dies
    assert not (tmp_path / "x.img").exists()


@pytest.mark.parametrize(("make_it", "reason"), [("dir", "TARGET_NOT_A_FILE"), ("source", "SAME_FILE")])
def test_a_folder_and_the_source_are_never_replaced(tmp_path, make, make_it, reason):
    final = tmp_path / "x-1.img"
    final.mkdir() if make_it == "dir" else final.write_text("source")
    file = make(overwrite=True, protected=final if make_it == "source" else None)
    with pytest.raises(InvalidArgument) as caught:
        file.create_sibling("x-1.img")
    assert caught.value.reason == reason


def test_a_dead_processs_siblings_are_resumed_in_their_order(tmp_path, make):
    fill(make())
    again = make(resume=True)
    assert [again.create_sibling(name, resume=True).pread(0, 7).decode() for name in NAMES] == list(NAMES)
    fresh = make(resume=True)
    assert fresh.create_sibling("x-1.img").size == 0
    (tmp_path / ".x.img.partial.0002").unlink()
    with pytest.raises(InvalidArgument) as caught:
        fresh.create_sibling("x-2.img", resume=True)
    assert caught.value.reason == "RESUME_STATE_INVALID"


def test_complete_siblings_are_adopted_only_if_all_are_there(tmp_path, make):
    fill(make())
    assert make(resume=True).new_siblings.adopt(NAMES)
    (tmp_path / ".x.img.partial.0003").unlink()
    siblings = make(resume=True).new_siblings
    assert not siblings.adopt(NAMES)
    assert siblings.names == ()


def test_publishing_goes_on_where_a_dead_process_stopped(tmp_path, make):
    fill(make())
    os.link(tmp_path / ".x.img.partial.0003", tmp_path / "x-3.img")
    siblings = make(resume=True).new_siblings
    assert siblings.adopt(NAMES)
    siblings.publish()
    siblings.tidy()
    assert names(tmp_path) == [".x.img.partial", *NAMES]


def test_leftovers_are_found_by_their_numbers_alone(tmp_path, make):
    fill(make())
    (tmp_path / ".x.img.partial.state").write_text("{}")
    drop_leftovers(tmp_path / ".x.img.partial")
    assert names(tmp_path) == [".x.img.partial", ".x.img.partial.state"]


def test_a_file_system_without_hard_links_publishes_too(tmp_path, make, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    file = make()
    fill(file)
    monkeypatch.setattr(os, "link", refuse)
    file.new_siblings.publish()
    file.new_siblings.tidy()
    assert names(tmp_path) == [".x.img.partial", *NAMES]


def test_a_partial_target_publishes_and_discards_siblings_with_itself(tmp_path):
    partial = PartialTarget(tmp_path / "x.img")
    file, _ = partial.begin({}, resume=False)
    fill(file)
    partial.discard(keep=False)
    assert names(tmp_path) == []
    file, _ = partial.begin({}, resume=False)
    fill(file)
    partial.publish()
    assert names(tmp_path) == [*NAMES, "x.img"]
    file, _ = PartialTarget(tmp_path / "x.img").begin({}, resume=False)
    file.create_sibling("x-1.img")  # it replaces an image, so it may replace that image's siblings


def test_siblings_get_the_permissions_of_the_image_that_is_replaced(tmp_path):
    (tmp_path / "x.img").write_text("old")
    (tmp_path / "x.img").chmod(0o640)
    partial = PartialTarget(tmp_path / "x.img")
    file, _ = partial.begin({}, resume=False)
    fill(file)
    partial.publish()
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("x.img", *NAMES)} == {0o640}


def test_a_killed_processs_siblings_are_dropped_by_the_next_one(tmp_path):
    file, _ = PartialTarget(tmp_path / "x.img").begin({}, resume=False)
    fill(file)
    file.close()  # without a word, as a kill does
    partial = PartialTarget(tmp_path / "x.img")
    partial.begin({}, resume=False)
    assert names(tmp_path) == [".x.img.partial-hypersdk"]
    partial.discard(keep=False)
