"""Finding plugins by their entry points, and what a broken one looks like."""

import json
import sys
import time

import pytest
from hypersdk_kernel.hosting.discovery import discover, plugin_id_of
from hypersdk_kernel.model.plugin import GenerationState


class Site:
    """A folder on the module path, with distributions as an installer leaves them."""

    def __init__(self, folder):
        self.folder = folder

    def add(
        self, distribution, *, kind="task", component="x", manifest=None, entry=None, code="", record=True, **fields
    ):
        package = distribution.replace("-", "_")
        if manifest is None:
            manifest = {
                "manifest_version": 1, "name": distribution, "api_version": "1.0", "summary": f"All of {distribution}",
                "components": {f"{kind}/{component}": {}},
            } | fields  # fmt: skip
        folder = self.folder / package
        folder.mkdir()
        (folder / "__init__.py").write_text(code)
        if manifest != "":
            text = manifest if isinstance(manifest, str) else json.dumps(manifest)
            (folder / "manifest.json").write_text(text)
        info = self.folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[hypersdk.{kind}]\n{component} = {entry or package + ':Plugin'}\n")
        if record:
            files = sorted(p.relative_to(self.folder).as_posix() for p in folder.rglob("*") if p.is_file())
            (info / "RECORD").write_text("".join(f"{f},,\n" for f in [*files, f"{info.name}/METADATA"]))
        return folder

    def discover(self):
        return {p.id: p for p in discover(1234.0, [str(self.folder)])}

    def only(self):
        (plugin,) = self.discover().values()
        return plugin.generations[0]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_sound_plugin_is_active_and_has_not_been_imported(site):
    site.add("hypersdk-task-x", code="raise RuntimeError('imported')")
    plugin = site.discover()["task-x"]
    assert (plugin.distribution, plugin.summary) == ("hypersdk-task-x", "All of hypersdk-task-x")
    generation = plugin.active
    assert generation.name == "plugins/task-x/generations/1"
    assert generation.entries == {"task/x": "hypersdk_task_x:Plugin"}
    assert generation.search_path == (str(site.folder),)
    assert (generation.origin, generation.version, generation.activate_time) == ("bundled", "1.0", 1234.0)
    assert "hypersdk_task_x" not in sys.modules


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"manifest": ""}, "MANIFEST_MISSING", "package data"),
        ({"manifest": "{"}, "MANIFEST_INVALID", "not JSON"),
        ({"manifest": {"manifest_version": 2}}, "MANIFEST_INVALID", "manifest_version"),
        ({"name": "hypersdk-other"}, "MANIFEST_UNTRUE", "hypersdk-other"),
        ({"components": {"task/y": {}}}, "MANIFEST_UNTRUE", "no entry point for task/y"),
        ({"api_version": "2.0"}, "API_VERSION_UNSUPPORTED", "2.0"),
        ({"api_version": "1.9"}, "API_VERSION_UNSUPPORTED", "1.9"),
        ({"entry": "no_such_module:Plugin"}, "PLUGIN_MODULE_MISSING", "no_such_module"),
    ],
)
def test_a_broken_plugin_is_failed_with_the_reason_and_the_others_are_found(site, change, reason, words):
    site.add("hypersdk-broken", **change)
    site.add("hypersdk-sound", component="sound")
    found = site.discover()
    generation = found["broken"].generations[0]
    assert (generation.state, generation.failure_reason) == (GenerationState.FAILED, reason)
    assert words in generation.failure_message
    assert found["sound"].active is not None


def test_a_file_that_the_record_names_and_the_disk_lacks_is_a_failure(site):
    (site.add("hypersdk-x") / "__init__.py").unlink()
    assert site.only().failure_reason == "PLUGIN_FILES_MISSING"


def test_other_distributions_and_other_groups_are_no_plugins(site):
    folder = site.folder / "other-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[console_scripts]\na = b:c\n[hypersdk.nonsense]\na = b:c\n")
    assert site.discover() == {}


@pytest.mark.parametrize("record", [True, False], ids=["wheel", "without RECORD"])
def test_the_digest_changes_with_every_file_and_with_nothing_else(site, record):
    folder = site.add("hypersdk-x", record=record)
    first = site.only().digest
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"compiled")
    assert site.only().digest == first
    (folder / "__init__.py").write_text("changed = True")
    assert site.only().digest != first


def test_the_same_files_have_the_same_digest_elsewhere(tmp_path):
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        site = Site(tmp_path / name)
        site.add("hypersdk-x")
        digests.add(site.only().digest)
    assert len(digests) == 1


def test_an_editable_plugin_is_told_apart(site):
    site.add("hypersdk-x")
    info = site.folder / "hypersdk_x-1.0.dist-info"
    (info / "direct_url.json").write_text('{"url": "", "dir_info": {"editable": true}}')
    assert site.only().origin == "editable"


def test_the_manifest_of_a_package_in_a_namespace_is_found_beside_the_entry_points_module(site):
    site.add("hypersdk-x", manifest="", entry="acme.plug.impl:Plugin", record=False)
    deep = site.folder / "acme" / "plug"
    deep.mkdir(parents=True)
    (deep / "__init__.py").write_text("raise RuntimeError('imported')")
    (deep / "impl.py").touch()
    manifest = {"manifest_version": 1, "name": "hypersdk-x", "api_version": "1.0", "components": {"task/x": {}}}
    (deep / "manifest.json").write_text(json.dumps(manifest))
    assert site.only().state is GenerationState.ACTIVE


def test_the_first_of_two_installations_counts(tmp_path):
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Site(tmp_path / name).add("hypersdk-x", summary=name)
        paths.append(str(tmp_path / name))
    (plugin,) = discover(0.0, paths)
    assert plugin.summary == "a"


def test_ids_are_resource_ids_and_unique():
    assert plugin_id_of("hypersdk-format-qcow2", {}) == "format-qcow2"
    assert plugin_id_of("hypersdk-x", {"x": 1}) == "hypersdk-x"
    assert plugin_id_of("7zip", {}) == "p-7zip"
    assert len(plugin_id_of("a" * 100, {})) == 63


def test_forty_plugins_are_discovered_in_well_under_a_third_of_a_second(site):
    for i in range(40):
        folder = site.add(f"hypersdk-p{i}", component=f"c{i}")
        for j in range(10):
            (folder / f"module{j}.py").write_text("x = 1\n" * 500)
    site.discover()  # the file system's caches and the imports are not what is measured
    began = time.perf_counter()
    found = site.discover()
    assert len([p for p in found.values() if p.active]) == 40
    assert time.perf_counter() - began < 0.3
