"""Writes `blocking/` from `aio/`, so that the two clients cannot drift: `python -m hypersdk.client.generate_sync`.

The async client is the source; the sync one is the same text with the async words taken out. With `--check` nothing is
written and the exit status is 1 when a file is stale; a unit test does the same. It knows only the words that occur
in `aio/`, and is no general converter.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_HEADER = "# Generated from {source} by `python -m hypersdk.client.generate_sync`; change that file instead.\n"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), text)
    for pattern, text in (
        (r"\basync (def|for|with)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\bAwaitable\[(\w+)\]", r"\1"),
        (r"\bAwaitable, ", ""),
        (r"\bAsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]"),
        (r"\bAsync([A-Z]\w+)\b", r"\1"),
        (r"\bgrpc\.aio\.", "grpc."),
        (r"\bhypersdk\.client\.aio\b", "hypersdk.client.blocking"),
        (r"\bopen_async\b", "open_sync"),
        (r"\baclosing\b", "closing"),
        (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
        (r"\basyncio\.sleep\b", "time.sleep"),
        (r"^import asyncio\n", ""),
        (r"\bfor (\w+) in (.+):\n +yield \1\n", r"yield from \2\n"),
    )
)
_ABC_IMPORT = re.compile(r"^(from collections\.abc import )(.+)$", re.MULTILINE)


def sync_text(text: str, source: str) -> str:
    """The sync twin of one async module."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = _ABC_IMPORT.sub(lambda found: found[1] + ", ".join(sorted(found[2].split(", "))), text)
    return _HEADER.format(source=source) + text


def stale(folder: Path) -> dict[Path, str]:
    """The sync files under the client's `folder` that are missing or differ, with the text they should have."""
    wanted = {
        folder / "blocking" / path.name: sync_text(path.read_text(), f"aio/{path.name}")
        for path in sorted((folder / "aio").glob("*.py"))
    }
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text}


def main(arguments: list[str]) -> int:
    """Exit status: 0 all fresh or written, 1 stale with `--check`."""
    changed = stale(Path(__file__).parent)
    for path, text in changed.items():
        sys.stderr.write(f"{'stale' if '--check' in arguments else 'written'}: {path.name}\n")
        if "--check" not in arguments:
            path.write_text(text)
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
