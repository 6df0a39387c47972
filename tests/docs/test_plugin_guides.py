"""docs/plugins: a guide for every kind, whose Python compiles and whose test classes run; every check is listed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypersdk.templates import KINDS
from hypersdk.testing.conformance.methods import METHODS
from hypersdk.testing.conformance.protocol import PROTOCOL
from hypersdk.testing.conformance.static import STATIC

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "plugins"
PAGES = sorted(FOLDER.glob("*.md"))
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTIONS = ("## Life", "## Declare", "## What goes wrong", "## Conformance")


def blocks(page: Path) -> list[str]:
    return PYTHON.findall(page.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_guide_that_is_linked(kind):
    text = (FOLDER / f"{kind}.md").read_text()
    wanted = ("## What broke others" if kind == "provider" and s == "## What goes wrong" else s for s in SECTIONS)
    assert [section for section in wanted if section not in text] == []
    assert f"]({kind}.md)" in (FOLDER / "index.md").read_text()
    assert f"hypersdk.testing.{'' if kind != 'format' else 'format'}" in text


def test_every_page_is_reached_from_the_start_page():
    index = (FOLDER / "index.md").read_text()
    assert [page.name for page in PAGES if page.name != "index.md" and f"]({page.name})" not in index] == []


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([\w./-]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_compiles(page):
    for text in blocks(page):
        compile(text, str(page), "exec")


def test_the_test_classes_of_the_guides_pass(tmp_path):
    found = 0
    for page in PAGES:
        for number, text in enumerate(blocks(page)):
            if "class Test" in text:
                found += 1
                (tmp_path / f"test_{page.stem}_{number}.py").write_text(text)
    assert found >= len(KINDS)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider",
               "--import-mode=importlib", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:]


def test_every_check_is_listed_with_its_meaning():
    text = (FOLDER / "testing.md").read_text()
    for group in (STATIC, PROTOCOL, METHODS):
        for check in group.checks:
            assert f"| `{check.id}` | {check.meaning} |" in text, check.id


def test_every_contract_is_listed():
    from hypersdk import testing

    text = (FOLDER / "testing.md").read_text()
    assert [name for name in testing._HOMES if name.endswith("Contract") and f"`{name}`" not in text] == []
