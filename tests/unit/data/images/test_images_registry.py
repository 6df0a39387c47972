"""Installed formats are found without importing them, and a broken plugin breaks nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry
from hypersdk.data.images.entrypoints import entry_points
from hypersdk.errors import Internal, InvalidArgument, NotFound

PLUGIN = """
import sys
from hypersdk.plugin.image_format import ImageFormat
class Toy(ImageFormat):
    name = "toy"
    def probe(self, head, tail, size): return 100 if head.startswith(b"TOY!") else 0
    def open(self, file, options=None): raise NotImplementedError
    def create(self, file, size, options=None, resume=None): raise NotImplementedError
"""
MANIFEST = {
    "manifest_version": 1, "name": "toy", "api_version": "1.0", "summary": "",
    "components": {"format/toy": {"aliases": ["plaything"], "extensions": [".TOY"]}},
}  # fmt: skip


def install(folder, name, code, manifest=None):
    package = folder / f"{name}_plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    if manifest is not None:
        (package / "manifest.json").write_text(manifest)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[console_scripts]\nx = y:z\n\n[hypersdk.format]\n# a comment\n{name} = {name}_plugin:Toy [extra]\n"
    )


@pytest.fixture
def site(tmp_path, monkeypatch):
    install(tmp_path, "toy", PLUGIN, json.dumps(MANIFEST))
    install(tmp_path, "broken", "raise RuntimeError('no such library')", "{ not json")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    yield tmp_path
    for name in ("toy_plugin", "broken_plugin"):
        sys.modules.pop(name, None)


def test_formats_are_listed_and_found_by_extension_without_importing_any(site):
    registry = FormatRegistry.installed()
    assert registry.names() == ["broken", "toy"]
    assert registry.aliases() == {"plaything": "toy"}
    assert registry.for_extension("disk.Toy") == "toy"
    assert registry.for_extension("disk") == registry.for_extension("disk.xyz") == ""
    assert "toy_plugin" not in sys.modules


@pytest.mark.parametrize("name", ["toy", "plaything", " TOY "])
def test_a_format_is_got_by_name_or_alias_in_any_case(site, name):
    registry = FormatRegistry.installed()
    assert registry.get(name).name == "toy"
    assert registry.get(name) is registry.get("toy")


def test_an_unknown_format_is_not_found_and_the_message_lists_what_there_is(site):
    with pytest.raises(NotFound, match="broken, toy") as caught:
        FormatRegistry.installed().get("qcow9")
    assert caught.value.reason == "FORMAT_UNKNOWN"


def test_a_plugin_that_raises_on_import_fails_alone_and_says_why(site):
    registry = FormatRegistry.installed()
    with pytest.raises(Internal, match="RuntimeError: no such library") as caught:
        registry.get("broken")
    assert caught.value.reason == "PLUGIN_IMPORT_FAILED"
    image = site / "image"
    image.write_bytes(b"TOY!" * 100)
    with ImageFile.open(image) as file:
        found, score = registry.probe(file)
    assert (found.name, score) == ("toy", 100)


def test_a_file_that_nobody_claims_is_refused_with_the_names_to_choose_from(site):
    (site / "image").write_bytes(b"")
    with ImageFile.open(site / "image") as file, pytest.raises(InvalidArgument, match="broken, toy") as caught:
        FormatRegistry.installed().probe(file)
    assert caught.value.reason == "FORMAT_UNRECOGNISED"


def test_an_entry_point_that_is_no_image_format_is_refused(site):
    (site / "toy_plugin" / "__init__.py").write_text("class Toy: name = 'toy'")
    with pytest.raises(Internal, match="is no ImageFormat"):
        FormatRegistry.installed().get("toy")


def test_the_first_distribution_on_the_path_wins_as_it_does_for_imports(site, tmp_path_factory, monkeypatch):
    second = tmp_path_factory.mktemp("second")
    install(second, "toy", PLUGIN)
    (second / "toy-1.0.dist-info" / "entry_points.txt").write_text("[hypersdk.format]\ntoy = other:Toy\n")
    monkeypatch.setattr(sys, "path", [str(site), str(second), str(site / "missing")])
    assert [e.module for e in entry_points("hypersdk.format") if e.name == "toy"] == ["toy_plugin"]


def test_plugins_inside_a_zip_on_the_path_are_found_too(site, monkeypatch):
    archive = site / "plugins.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in site.glob("toy*/*"):
            if path.is_file():
                out.write(path, path.relative_to(site))
    monkeypatch.setattr(sys, "path", [str(archive), *sys.path[1:]])
    assert [e.name for e in entry_points("hypersdk.format")] == ["toy"]


def test_our_own_scan_agrees_with_the_standard_librarys():
    from importlib.metadata import entry_points as standard

    assert {(e.name, f"{e.module}:{e.attribute}") for e in entry_points("hypersdk.format")} == {
        (e.name, e.value) for e in standard(group="hypersdk.format")
    }


def test_looking_at_an_image_imports_neither_pipeline_nor_numpy_nor_hashlib():
    code = (
        "import sys; from hypersdk.data.images import FormatRegistry, open_image; FormatRegistry.installed().names(); "
        "print([m for m in ('numpy', 'isal', 'zstandard', 'hashlib', 'concurrent.futures', 'importlib.metadata', "
        "'hypersdk.data.pipeline', 'grpc') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
