"""A suite that cannot fail is worthless: each broken plugin of support/mutants is caught by the check for it."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.mutants import broken_formats, broken_providers, broken_storages, broken_tasks

MODULES = (broken_storages, broken_providers, broken_formats, broken_tasks)
CLASSES = {
    name: cls for module in MODULES for name, cls in vars(module).items()
    if name.startswith("Test") and isinstance(cls, type)
}  # fmt: skip
MUTANTS = {name: cls.caught_by for name, cls in CLASSES.items() if hasattr(cls, "caught_by")}
SOUND = [name for name in CLASSES if name not in MUTANTS]


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> dict[str, set[str]]:
    """Class → the tests of it that failed, without their parameters. One run for all."""
    junit = tmp_path_factory.mktemp("mutants") / "junit.xml"
    command = [
        sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "--import-mode=importlib",
        "--noconftest", f"--junitxml={junit}", *(str(Path(module.__file__)) for module in MODULES),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=junit.parent)
    assert junit.exists(), done.stdout + done.stderr
    found: dict[str, set[str]] = {name: set() for name in CLASSES}
    seen = set()
    for case in ET.parse(junit).iter("testcase"):
        name = case.get("classname").rpartition(".")[2]
        seen.add(name)
        if case.find("failure") is not None or case.find("error") is not None:
            found[name].add(case.get("name").partition("[")[0])
    assert seen == set(CLASSES)
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_each_broken_plugin_is_caught_by_the_check_for_it(failed, name):
    assert MUTANTS[name] in failed[name]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_plugin_passes(failed, name):
    assert failed[name] == set()


def test_there_are_mutants_of_every_suite():
    assert len(MUTANTS) >= 30
    assert {"TestSoundStorage", "TestSoundProvider", "TestSoundChanges", "TestSoundTask"} <= set(SOUND)
