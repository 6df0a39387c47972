"""docs/errors.md names every reason that kernel and SDK can raise, and no other."""

import ast
import re
from pathlib import Path

from hypersdk import errors

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "kernel" / "src", ROOT / "sdk" / "python" / "src"]
REASON = re.compile(r"[A-Z][A-Z0-9_]{2,62}")
ROW = re.compile(r'^\| <a id="([a-z0-9_]+)"></a>`([A-Z][A-Z0-9_]+)` \|', re.MULTILINE)


def _constant(node) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def reasons_in(tree: ast.AST) -> set[str]:
    """Where a reason is written: `reason="X"`, an assignment to `…reason`, and a bare "X_Y" in a raise statement."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found |= {_constant(k.value) for k in node.keywords if (k.arg or "").endswith("reason")}
        elif isinstance(node, ast.Assign) and any(getattr(t, "id", "").endswith("reason") for t in node.targets):
            found.add(_constant(node.value))
        elif isinstance(node, ast.Raise):
            found |= {text for inner in ast.walk(node) if "_" in (text := _constant(inner)) and " " not in text}
    return {text for text in found if REASON.fullmatch(text)}


def raised() -> set[str]:
    found = {reason for _, reason in errors._OS_ERRORS.values()} | {"OS_ERROR"}
    for source in SOURCES:
        for file in source.rglob("*.py"):
            if not {"api", "testing", "migrations"} & set(file.parts):
                found |= reasons_in(ast.parse(file.read_text()))
    return found


def documented() -> list[tuple[str, str]]:
    return ROW.findall((ROOT / "docs" / "errors.md").read_text())


def test_every_reason_is_documented():
    assert sorted(raised() - {reason for _, reason in documented()}) == []


def test_no_documented_reason_is_unknown_to_the_source():
    assert sorted({reason for _, reason in documented()} - raised()) == []


def test_each_has_one_entry_which_the_help_link_of_an_error_finds():
    rows = documented()
    assert [anchor for anchor, _ in rows] == [reason.lower() for _, reason in rows]
    assert len({reason for _, reason in rows}) == len(rows)
