"""The plugin's own tests, which subclass the contracts of hypersdk.testing: run by pytest in a process of their own.

The distribution need not be installed: metadata made from pyproject.toml lies on the module path beside its modules.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from hypersdk.testing.conformance.checks import Outcome, Status
from hypersdk.testing.conformance.project import Project

_TIMEOUT_S = 900
_MEND = "The test's docstring says what it means and how to mend it; run `python -m pytest` in the plugin's folder."
_MEANING = "The plugin's own tests pass, the contract suites among them."


def run_suites(project: Project) -> Iterator[Outcome]:
    """One outcome a test class or module, and one for the whole if pytest could not run."""
    tests = project.tests
    why = ""
    if tests is None:
        why = "there is no folder tests/"
    elif not any(project.modules.rglob("*.py")):
        why = "the plugin is not written in Python"
    elif importlib.util.find_spec("pytest") is None:
        why = "pytest is not installed: pip install 'hypersdk[testing]'"
    if why or tests is None:
        yield Outcome("suite", Status.SKIPPED, _MEANING, _MEND, why)
        return
    with tempfile.TemporaryDirectory(prefix="hypersdk-suite-") as folder:
        yield from _run(project, tests, Path(folder))


def _run(project: Project, tests: Path, folder: Path) -> Iterator[Outcome]:
    _write_metadata(project, folder)
    junit = folder / "junit.xml"
    paths = [str(project.modules), str(folder), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    command = [
        sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib",
        f"--junitxml={junit}", "-o", "junit_family=xunit1", str(tests),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=project.root, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield Outcome("suite", Status.FAILED, _MEANING, _MEND, f"the tests did not end within {_TIMEOUT_S} s")
        return
    if not junit.exists() or done.returncode > 1:
        detail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        yield Outcome("suite", Status.FAILED, _MEANING, _MEND, f"pytest could not run the tests:\n{detail}")
        return
    yield from _outcomes(junit)


def _outcomes(junit: Path) -> Iterator[Outcome]:
    groups: dict[str, list[ET.Element]] = {}
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 - written by our own child
        name = str(case.get("classname", "")).rpartition(".")[2] or "tests"
        groups.setdefault(name, []).append(case)
    if not groups:
        yield Outcome("suite", Status.FAILED, _MEANING, _MEND, "there is not one test in tests/")
    for name, cases in groups.items():
        bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
        skips = sum(case.find("skipped") is not None for case in cases)
        seconds = sum(float(case.get("time", "0")) for case in cases)
        status = Status.FAILED if bad else Status.SKIPPED if skips == len(cases) else Status.PASSED
        detail = "; ".join(f"{case.get('name')}: {_message(case)}" for case in bad[:5])
        if not bad and skips:
            detail = f"{len(cases) - skips} passed, {skips} skipped"
        yield Outcome(f"suite.{name}", status, f"{_MEANING} {name}: {len(cases)} tests.", _MEND, detail, seconds)


def _message(case: ET.Element) -> str:
    found = next((e for tag in ("failure", "error") if (e := case.find(tag)) is not None), None)
    return (str(found.get("message", "")) if found is not None else "").strip().partition("\n")[0][:200]


def _write_metadata(project: Project, folder: Path) -> None:
    info = folder / f"{project.distribution.replace('-', '_')}-{project.version or '0'}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project.distribution}\nVersion: {project.version or '0'}\n", encoding="utf-8"
    )
    groups: dict[str, list[str]] = {}
    for component, entry in project.entries.items():
        kind, _, name = component.partition("/")
        groups.setdefault(f"hypersdk.{kind}", []).append(f"{name} = {entry}\n")
    text = "".join(f"[{group}]\n{''.join(rows)}" for group, rows in groups.items())
    (info / "entry_points.txt").write_text(text, encoding="utf-8")
