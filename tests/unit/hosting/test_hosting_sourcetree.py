"""Source folders as plugins, without an installation."""

import pytest
from hypersdk.errors import FailedPrecondition
from hypersdk_kernel.hosting.discovery import discover, source_folders
from hypersdk_kernel.hosting.sourcetree import MAX_PROJECT_BYTES, SourceDistribution
from hypersdk_kernel.model.plugin import GenerationState
from support.sourcetrees import PROJECT, make_tree
from support.wheels import make_wheel


def only(tree, path=()):
    (plugin,) = discover(1234.0, [str(p) for p in path], [tree])
    return plugin.generations[0]


def test_a_source_folder_is_an_editable_plugin_with_its_modules_in_front(tmp_path):
    module = make_tree(tmp_path, "1.2")
    found = only(tmp_path)
    assert (found.state, found.origin, found.version) == (GenerationState.ACTIVE, "editable", "1.2")
    assert found.entries == {"format/swapped": "hypersdk_format_swapped:Plugin"}
    assert found.search_path == (str(tmp_path / "src"),)
    assert source_folders(found) == (module.parent,)


def test_without_a_src_folder_the_modules_lie_in_the_folder_itself(tmp_path):
    make_tree(tmp_path)
    (tmp_path / "src" / "hypersdk_format_swapped").rename(tmp_path / "hypersdk_format_swapped")
    (tmp_path / "src").rmdir()
    assert only(tmp_path).search_path == (str(tmp_path),)


def test_an_edit_of_code_manifest_or_entry_points_is_another_build_and_byte_code_is_none(tmp_path):
    module = make_tree(tmp_path)
    digests = [only(tmp_path).digest]
    (module.parent / "__pycache__").mkdir()
    (module.parent / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    assert only(tmp_path).digest == digests[0]
    module.write_text(module.read_text() + "# edited\n")
    digests.append(only(tmp_path).digest)
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text().replace("swapped:Plugin", "swapped:Plugin2"))
    digests.append(only(tmp_path).digest)
    assert len(set(digests)) == 3


def test_a_source_folder_comes_before_what_is_installed_under_its_name(tmp_path):
    import zipfile

    with zipfile.ZipFile(make_wheel(tmp_path, "9.0")) as archive:
        archive.extractall(tmp_path / "site")
    make_tree(tmp_path / "tree", "1.0")
    assert only(tmp_path / "tree", [tmp_path / "site"]).version == "1.0"


def test_a_version_that_only_the_build_backend_knows_has_a_name_of_its_own(tmp_path):
    make_tree(tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT.replace('version = "{version}"', 'dynamic = ["version"]'))
    assert only(tmp_path).version == "0+source"


@pytest.mark.parametrize(
    ("project", "words"),
    [
        (None, "cannot be read"),
        ("[project", "cannot be read"),
        ("[tool.x]", "no table"),
        ("project = 3", "no table"),
        ("[project]\nname = 7", "no name"),
        ('[project]\nname = "x\\nEvil: 1"', "no name"),
        ('[project]\nname = "x"\nversion = "one"', "one"),
        ('[project]\nname = "x"\n[project.entry-points.g]\n"a\\n[b" = "c"', "entry-points"),
        ("#" * (MAX_PROJECT_BYTES + 1), "more than"),
    ],
)
def test_a_folder_that_is_no_project_is_refused_and_harms_nothing_else(tmp_path, project, words):
    make_tree(tmp_path / "sound")
    broken = tmp_path / "broken"
    broken.mkdir()
    if project is not None:
        (broken / "pyproject.toml").write_text(project)
    with pytest.raises(FailedPrecondition, match=words) as caught:
        SourceDistribution(broken)
    assert caught.value.reason == "SOURCE_TREE_INVALID"
    assert [p.id for p in discover(1.0, [], [broken, tmp_path / "sound"])] == ["format-swapped"]
