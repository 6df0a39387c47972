"""What makes a build a build: one SHA-256 over the names and contents of a plugin's files.

The same files give the same digest wherever they are installed; compiled byte code and installer's notes do not
count.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


def digest_files(files: Mapping[str, Path], extra: Mapping[str, bytes]) -> str:
    """Hex SHA-256 over `name → file` and `name → content`, in order of name: for each, the length of the name and the
    name, the length of the content and the SHA-256 of the content. Raises OSError."""
    total = hashlib.sha256()
    for name in sorted({*files, *extra}):
        content = extra[name] if name in extra else files[name].read_bytes()
        encoded = name.encode("utf-8", "surrogateescape")
        total.update(len(encoded).to_bytes(4, "big") + encoded + len(content).to_bytes(8, "big"))
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def package_files(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """The files below a package's folder, named `prefix/relative/path`. Symbolic links to folders are not
    followed."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS]
        relative = Path(parent).relative_to(folder)
        for file in files:
            if not file.endswith((".pyc", ".pyo")):
                yield (Path(prefix) / relative / file).as_posix(), Path(parent, file)
