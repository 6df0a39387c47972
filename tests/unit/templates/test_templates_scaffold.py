"""Templates: names are judged, nothing is overwritten, what is written is whole and compiles."""

import ast
import json
import re

import pytest
from hypersdk.errors import AlreadyExists, InvalidArgument, NotFound
from hypersdk.plugin.manifest import Manifest
from hypersdk.templates import KINDS, plan

BAD_NAMES = ("", "A", "a b", "1st", "-a", "a-", "a--b", "a_b", "../x", "a/b", "a\0", "x" * 41, "ü", "test", "$name")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_could_not_be_components_are_refused(tmp_path, name):
    with pytest.raises(InvalidArgument) as caught:
        plan("format", name, tmp_path / "x")
    assert caught.value.reason == "PLUGIN_NAME_INVALID"
    assert caught.value.violations


def test_a_name_that_is_the_kind_is_refused(tmp_path):
    with pytest.raises(InvalidArgument):
        plan("format", "format", tmp_path / "x")


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InvalidArgument) as caught:
        plan("widget", "acme", tmp_path / "x")
    assert caught.value.reason == "PLUGIN_KIND_UNKNOWN"
    assert all(kind in caught.value.message for kind in KINDS)


@pytest.mark.parametrize("what", ["directory", "file", "dangling link"])
def test_nothing_is_overwritten(tmp_path, what):
    target = tmp_path / "there"
    {"directory": target.mkdir, "file": target.touch, "dangling link": lambda: target.symlink_to("nowhere")}[what]()
    with pytest.raises(AlreadyExists) as caught:
        plan("format", "acme", target)
    assert caught.value.reason == "DIRECTORY_EXISTS"


def test_a_directory_that_appears_meanwhile_is_not_overwritten(tmp_path):
    scaffold = plan("format", "acme", tmp_path / "x")
    (tmp_path / "x").mkdir()
    with pytest.raises(AlreadyExists):
        scaffold.write()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_parent_that_is_missing_is_told(tmp_path):
    with pytest.raises(NotFound) as caught:
        plan("format", "acme", tmp_path / "no" / "x")
    assert caught.value.reason == "DIRECTORY_MISSING"


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    scaffold = plan("format", "acme", tmp_path / "x")

    def full(*_args, **_kw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space"):
        scaffold.write()
    assert list(tmp_path.iterdir()) == []


def test_planning_writes_nothing(tmp_path):
    plan("format", "acme", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_a_whole_distribution(tmp_path, kind):
    found = plan(kind, "acme-cloud2", tmp_path / "x").files
    package = f"src/hypersdk_{kind}_acme_cloud2"
    for name in ("pyproject.toml", "README.md", ".gitignore", ".github/workflows/ci.yml", "tests/test_conformance.py",
                 f"{package}/__init__.py", f"{package}/manifest.json", f"{package}/py.typed"):  # fmt: skip
        assert name in found
    manifest = Manifest.parse(found[f"{package}/manifest.json"])
    assert manifest.name == f"hypersdk-{kind}-acme-cloud2"
    assert list(manifest.components) == [f"{kind}/acme-cloud2"]
    for name, text in found.items():
        assert "__package__" not in name
        assert not re.search(r"\$(kind|name|package|distribution|class_name|\{name)", text), name
        if name.endswith(".py"):
            ast.parse(text)
        if name.endswith(".json"):
            json.loads(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_name_fits(tmp_path, kind):
    name = "a" + "b" * 39
    found = plan(kind, name, tmp_path / "x").files
    Manifest.parse(next(text for path, text in found.items() if path.endswith("manifest.json")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_names_no_host_of_a_registry(tmp_path, kind):
    for name, text in plan(kind, "acme", tmp_path / "x").files.items():
        hosts = set(re.findall(r"https?://([^/\s\"']+)", text)) - {"json-schema.org"}
        assert not hosts, f"{name} names {hosts}"
