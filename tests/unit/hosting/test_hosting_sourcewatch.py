"""Reload on save: each edit once, bad ones too, and whoever forgot to tell."""

import asyncio
import shutil
from dataclasses import replace

import pytest
from hosting_fakes import eventually
from hypersdk.errors import FailedPrecondition
from hypersdk_kernel.hosting.discovery import discover
from hypersdk_kernel.hosting.sourcewatch import SourceWatcher
from support.sourcetrees import make_tree


class Bench:
    """A plugin in a source folder, and a reload that refuses what says `broken`."""

    def __init__(self, folder):
        self.folder = folder
        self.module = make_tree(folder)
        self.plugin = self.find()[0]
        self.reloads = []

    def find(self):
        return discover(1.0, [], [self.folder])

    async def reload(self, plugin_id):
        self.reloads.append(self.module.read_text())
        if "broken" in self.reloads[-1]:
            raise FailedPrecondition("it is broken", reason="HOST_START_FAILED")
        self.plugin = self.find()[0]

    async def tidy(self, plugin_id):
        pass

    def watcher(self, **kw):
        return SourceWatcher(lambda: [self.plugin], self.find, self.reload, self.tidy, [self.folder], **kw)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "tree")


@pytest.fixture
async def running():
    tasks = []

    def start(watcher):
        tasks.append(asyncio.create_task(watcher.run()))

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_edit_is_reloaded_once_and_one_that_does_not_serve_is_not_tried_again(bench):
    watcher = bench.watcher()
    await watcher.scan()
    assert bench.reloads == []
    for text in ("one = 1", "broken = 1", "two = 2"):
        bench.module.write_text(text)
        await watcher.scan()
        await watcher.scan()
    assert bench.reloads == ["one = 1", "broken = 1", "two = 2"]


async def test_a_bad_edit_that_is_taken_back_leaves_what_serves_and_can_be_made_again(bench):
    watcher = bench.watcher()
    original = bench.module.read_text()
    for text in ("broken = 1", original, "broken = 1"):
        bench.module.write_text(text)
        await watcher.scan()
    assert bench.reloads == ["broken = 1", "broken = 1"]


async def test_a_plugin_that_an_installed_build_covers_is_left_alone(bench):
    active = replace(bench.plugin.active, origin="installed")
    bench.plugin = replace(bench.plugin, generations=(active,))
    bench.module.write_text("one = 1")
    await bench.watcher().scan()
    assert bench.reloads == []


async def test_a_save_is_noticed_and_so_are_the_project_file_and_a_new_folder_in_the_place_of_the_old(bench, running):
    running(bench.watcher(rescan_s=600))
    await asyncio.sleep(0.1)
    bench.module.write_text("one = 1")
    await eventually(lambda: bench.reloads == ["one = 1"])
    project = bench.folder / "pyproject.toml"
    project.write_text(project.read_text().replace(":Plugin", ":Other"))
    await eventually(lambda: len(bench.reloads) == 2)
    package = bench.module.parent
    shutil.copytree(package, package.with_name("copy"))
    (package.with_name("copy") / "__init__.py").write_text("copied = 1")
    shutil.rmtree(package)
    package.with_name("copy").rename(package)
    await eventually(lambda: bench.reloads[-1] == "copied = 1")


async def test_what_nobody_told_of_is_found_by_the_rescan(bench, running, monkeypatch):
    monkeypatch.setattr("hypersdk_kernel.hosting.sourcewatch._is_source", lambda *_: False)
    running(bench.watcher(rescan_s=0.1))
    bench.module.write_text("one = 1")
    await eventually(lambda: bench.reloads == ["one = 1"])
