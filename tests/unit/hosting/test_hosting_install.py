"""The store of plugins: what is refused leaves nothing behind, what is taken in is whole and never changes."""

import zipfile
from dataclasses import replace

import pytest
from hypersdk.errors import DataLoss, HyperError
from hypersdk.signing import digest_of
from hypersdk_kernel.hosting.install import PluginStore, Sources
from support.wheels import make_wheel

INFO = "hypersdk_format_swapped-1.0.dist-info"
PACKAGE = "hypersdk_format_swapped"
WRONG_DIGEST = "sha256=" + "A" * 43


@pytest.fixture
def store(tmp_path):
    made = PluginStore(tmp_path / "plugins")
    made.prepare()
    return made


def left_behind(store):
    return [p for p in store.root.rglob("*") if p.name not in {"store", "staging", "hypersdk-format-swapped"}]


def test_a_wheel_becomes_a_build_whose_folder_says_what_it_is(store, tmp_path):
    build = store.add_wheel(make_wheel(tmp_path))
    generation = build.generation
    assert build.folder == store.root / "store" / "hypersdk-format-swapped" / f"1.0-{generation.digest}"
    assert (generation.version, generation.origin, generation.search_path) == ("1.0", "installed", (str(build.folder),))
    assert generation.entries == {"format/swapped": f"{PACKAGE}:Plugin"}
    assert list((build.folder / PACKAGE / "__pycache__").iterdir())
    assert list((store.root / "staging").iterdir()) == []


def test_the_same_wheel_from_elsewhere_is_the_same_build(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first = store.add_wheel(make_wheel(tmp_path))
    again = store.add_wheel(make_wheel(tmp_path / "elsewhere"))
    assert again.folder == first.folder
    assert again.generation == replace(first.generation, provenance=again.generation.provenance)
    assert again.generation.provenance.sha256 == digest_of(tmp_path / "elsewhere" / first.generation.provenance.source)
    other = store.add_wheel(make_wheel(tmp_path, files={f"{PACKAGE}/more.py": "x = 1"}))
    assert other.folder != first.folder


def test_a_wheel_that_is_only_judged_is_not_kept(store, tmp_path):
    build = store.add_wheel(make_wheel(tmp_path), keep=False)
    assert build.generation.digest
    assert left_behind(store) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"files": {"../outside.py": ""}}, "WHEEL_INVALID"),
        ({"files": {f"{PACKAGE}/../../outside.py": ""}}, "WHEEL_INVALID"),
        ({"files": {"/etc/outside.py": ""}}, "WHEEL_INVALID"),
        ({"files": {"a\\..\\outside.py": ""}}, "WHEEL_INVALID"),
        ({"files": {"C:outside.py": ""}}, "WHEEL_INVALID"),
        ({"files": {"other-1.0.dist-info/METADATA": ""}}, "WHEEL_INVALID"),
        ({"record": {f"{PACKAGE}/__init__.py": WRONG_DIGEST}}, "WHEEL_INVALID"),
        ({"record": {f"{PACKAGE}/__init__.py": None}}, "WHEEL_INVALID"),
        ({"record": {f"{PACKAGE}/__init__.py": ""}}, "WHEEL_INVALID"),
        ({"record": {f"{PACKAGE}/__init__.py": "md5=abc"}}, "WHEEL_INVALID"),
        ({"metadata_version": "2.0"}, "WHEEL_INVALID"),
        ({"metadata_version": "new"}, "WHEEL_INVALID"),
        ({"metadata_name": "hypersdk-format-qcow2"}, "WHEEL_INVALID"),
        ({"requires": ("not a requirement !",)}, "WHEEL_INVALID"),
        ({"manifest": ""}, "MANIFEST_MISSING"),
        ({"manifest": "{}"}, "MANIFEST_INVALID"),
        ({"component": "other", "entry": f"{PACKAGE}.missing:Plugin"}, "PLUGIN_MODULE_MISSING"),
        ({"entry": "somewhere_else:Plugin"}, "PLUGIN_MODULE_MISSING"),
        ({"requires": ("surely-not-installed>=3",)}, "DEPENDENCY_UNMET"),
        ({"requires": ("hypersdk>=99",)}, "DEPENDENCY_UNMET"),
    ],
)
def test_a_bad_wheel_is_refused_with_its_reason_and_leaves_nothing(store, tmp_path, fault, reason):
    with pytest.raises(HyperError) as caught:
        store.add_wheel(make_wheel(tmp_path, **fault))
    assert caught.value.reason == reason
    assert left_behind(store) == []
    assert not (tmp_path / "outside.py").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "hypersdk-other"}, "MANIFEST_UNTRUE"),
        ({"components": {"format/other": {}}}, "MANIFEST_UNTRUE"),
        ({"api_version": "2.0"}, "API_VERSION_UNSUPPORTED"),
    ],
)
def test_a_manifest_that_lies_is_refused(store, tmp_path, change, reason):
    sound = {
        "manifest_version": 1, "name": "hypersdk-format-swapped", "api_version": "1.0",
        "components": {"format/swapped": {}},
    }  # fmt: skip
    with pytest.raises(HyperError) as caught:
        store.add_wheel(make_wheel(tmp_path, manifest=sound | change))
    assert caught.value.reason == reason
    assert left_behind(store) == []


def test_links_doubles_and_garbage_are_refused(store, tmp_path):
    link = make_wheel(tmp_path)
    with zipfile.ZipFile(link, "a") as archive:
        member = zipfile.ZipInfo(f"{PACKAGE}/link.py")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(HyperError, match="symbolic link"):
        store.add_wheel(link)
    double = make_wheel(tmp_path)
    with zipfile.ZipFile(double, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"{PACKAGE}/__init__.py", "evil = 1")
    with pytest.raises(HyperError, match="twice"):
        store.add_wheel(double)
    whole = make_wheel(tmp_path)
    data = whole.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 5):
        whole.write_bytes(data[:cut])
        with pytest.raises(HyperError) as caught:
            store.add_wheel(whole)
        assert caught.value.reason == "WHEEL_INVALID"
    stranger = tmp_path / "plugin.zip"
    stranger.write_bytes(data)
    with pytest.raises(HyperError, match="file name"):
        store.add_wheel(stranger)
    assert left_behind(store) == []


def test_dependencies_come_from_the_configured_folder_into_the_build(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "3.1", distribution="needed-by-it", component="needed")
    store = PluginStore(tmp_path / "plugins", Sources(wheels))
    store.prepare()
    build = store.add_wheel(make_wheel(tmp_path, requires=("needed-by-it>=3", "hypersdk", "protobuf>=4")))
    assert (build.folder / "needed_by_it").is_dir()
    assert not (build.folder / "hypersdk").exists()
    with pytest.raises(HyperError) as caught:
        store.add_wheel(make_wheel(tmp_path, requires=("needed-by-it>=4",)))
    assert caught.value.reason == "INSTALL_FAILED"
    assert "needed-by-it" in caught.value.message


def test_a_plugin_is_found_by_name_in_the_configured_folder_only(tmp_path, store):
    with pytest.raises(HyperError) as caught:
        store.add_named("hypersdk-format-swapped", "hypersdk-format-swapped")
    assert caught.value.reason == "NO_PLUGIN_SOURCE"
    make_wheel(tmp_path, "1.0")
    make_wheel(tmp_path, "1.5")
    rich = PluginStore(tmp_path / "rich", Sources(tmp_path))
    rich.prepare()
    assert rich.add_named("hypersdk-format-swapped<1.2", "hypersdk-format-swapped").generation.version == "1.0"
    assert rich.add_named("hypersdk-format-swapped", "hypersdk-format-swapped").generation.version == "1.5"


@pytest.mark.parametrize("harm", ["source", "bytecode", "entry points", "added", "removed", "link"])
def test_a_build_that_was_touched_is_not_loaded(store, tmp_path, harm):
    build = store.add_wheel(make_wheel(tmp_path))
    generation = replace(build.generation, number=4)
    assert store.load(generation).manifest is not None
    package = build.folder / PACKAGE
    bytecode = next((package / "__pycache__").iterdir())
    match harm:
        case "source":
            (package / "__init__.py").write_text("import os")
        case "bytecode":
            bytecode.write_bytes(bytecode.read_bytes()[:-1] + b"?")
        case "entry points":
            (build.folder / INFO / "entry_points.txt").write_text("[hypersdk.format]\nswapped = os:system\n")
        case "added":
            (build.folder / "json.py").write_text("")
        case "removed":
            bytecode.unlink()
        case "link":
            (build.folder / "json").symlink_to("/etc")
    with pytest.raises(DataLoss) as caught:
        store.load(generation)
    assert caught.value.reason == "PLUGIN_TAMPERED"


def test_a_removed_build_is_gone_and_what_a_crash_left_is_swept(store, tmp_path):
    build = store.add_wheel(make_wheel(tmp_path))
    store.remove(build.generation)
    store.remove(build.generation)
    assert not build.folder.exists()
    with pytest.raises(HyperError) as caught:
        store.load(build.generation)
    assert caught.value.reason == "PLUGIN_FILES_MISSING"
    (store.root / "staging" / "half").mkdir()
    store.prepare()
    assert left_behind(store) == []


def test_a_build_that_was_never_written_down_is_swept(store, tmp_path):
    known = store.add_wheel(make_wheel(tmp_path, "1.0"))
    orphan = store.add_wheel(make_wheel(tmp_path, "2.0"))
    store.sweep([known.generation])
    assert known.folder.is_dir()
    assert not orphan.folder.exists()
