"""HostCommand: how the host of a plugin that is not written in Python is started, as its manifest says.

    "host": {"command": ["node", "${package}/host.mjs"]}

The first word is a file of the plugin (`${package}/bin/host`) or the name of an interpreter, which is looked for in
PATH and must be one that the daemon's operator allows. `${package}` is the folder of manifest.json; a word that begins
with it must stay inside. No shell is involved, no variable is expanded, and `--fd N` is appended.

This makes a plugin's start predictable; it is no wall around it: what a plugin runs has the rights of any host.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypersdk.errors import FailedPrecondition

PACKAGE = "${package}"
MAX_WORDS = 64
MAX_WORD_BYTES = 4096
INTERPRETERS = ("node", "deno", "bun", "java", "ruby", "perl", "php", "dotnet")
"""Those allowed where nobody says otherwise. No shell is among them: it would read its words as commands."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True, slots=True)
class HostCommand:
    """The words, with `${package}` still in them."""

    command: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"command": list(self.command)}

    @classmethod
    def parse(cls, data: Any, fault: Callable[[str, str], None]) -> HostCommand | None:
        """From the manifest's `host`; None, and `fault` told why, when it is wrong."""
        if not isinstance(data, dict) or data.keys() != {"command"}:
            fault("host", 'must be {"command": [words]}')
            return None
        words = data["command"]
        if not isinstance(words, list) or not 0 < len(words) <= MAX_WORDS:
            fault("host.command", f"must be a list of 1 to {MAX_WORDS} words")
            return None
        why = next((text for number, word in enumerate(words) if (text := _fault(word, first=not number))), "")
        if why:
            fault("host.command", why)
            return None
        return cls(tuple(words))

    def resolve(self, package: Path, interpreters: Collection[str] = INTERPRETERS) -> tuple[str, ...]:
        """What to start for the plugin whose manifest.json is in `package`. Raises FailedPrecondition
        (HOST_COMMAND_REFUSED, HOST_COMMAND_MISSING)."""
        root = package.resolve()
        words = [self._word(word, root) for word in self.command]
        if self.command[0].startswith(PACKAGE):
            if not os.path.isfile(words[0]) or not os.access(words[0], os.X_OK):
                raise FailedPrecondition(
                    f"the host command {words[0]!r} is no executable file of the plugin", reason="HOST_COMMAND_MISSING"
                )
            return tuple(words)
        if words[0] not in interpreters:
            raise FailedPrecondition(
                f"the plugin's host wants to be run by {words[0]!r}; allowed are "
                f"{', '.join(sorted(interpreters)) or 'none'} (setting host_interpreters)",
                reason="HOST_COMMAND_REFUSED",
            )
        found = shutil.which(words[0])
        if found is None or not os.path.isabs(found):  # PATH may name the working directory, which is anybody's
            raise FailedPrecondition(
                f"the plugin's host is run by {words[0]!r}, which is not in PATH; install it",
                reason="HOST_COMMAND_MISSING",
            )
        return (found, *words[1:])

    @staticmethod
    def _word(word: str, root: Path) -> str:
        if not word.startswith(PACKAGE):
            return word
        path = Path(f"{root}{word.removeprefix(PACKAGE)}").resolve()  # follows links: those must stay inside too
        if path != root and root not in path.parents:
            raise FailedPrecondition(f"{word!r} leads out of the plugin's package", reason="HOST_COMMAND_REFUSED")
        if not path.exists():
            raise FailedPrecondition(f"{word!r} is not in the plugin's package", reason="HOST_COMMAND_MISSING")
        return str(path)


def _fault(word: Any, *, first: bool) -> str:
    if not isinstance(word, str) or not word or "\0" in word or len(word.encode("utf-8", "replace")) > MAX_WORD_BYTES:
        return f"must hold words of 1 to {MAX_WORD_BYTES} bytes without zeros"
    inside = word.startswith(PACKAGE)
    if "${" in word.removeprefix(PACKAGE):
        return f"knows {PACKAGE} at the beginning of a word, and no other variable"
    rest = word.removeprefix(PACKAGE)
    if inside and rest and (not rest.startswith("/") or ".." in rest.split("/")):
        return f"must not leave the package: {word[:80]!r}"
    if first and not (inside and rest.strip("/")) and not _NAME.fullmatch(word):
        return f"must begin with the name of an interpreter or a file below {PACKAGE}/"
    return ""
