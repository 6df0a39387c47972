"""Tasks with a side effect that is counted: a source folder of a plugin with `effect`, a process of its own for each
attempt, and `effect-brief`, which runs in warm workers. Each success appends one line to a file, synced."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

CODE = '''
import os, time
from hypersdk.errors import DataLoss, Unavailable
from hypersdk.plugin import Task


class Effect(Task):
    def run(self, context):
        spec = context.spec
        fail = spec.get("fail", "")
        if fail in {"never", "away"} or (fail == "once" and context.attempt == 1):
            raise DataLoss("bad bytes") if fail == "never" else Unavailable("come back")
        time.sleep(spec.get("work_s", 0.0))
        context.check()
        fd = os.open(spec["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(fd, f"{context.job} {context.attempt}\\n".encode())
        os.fsync(fd)
        os.close(fd)
        return {"attempt": context.attempt}


class EffectBrief(Effect):
    pass


class Noop(Task):
    def run(self, context):
        return {}
'''
_SPEC = {
    "type": "object", "additionalProperties": False, "required": ["journal"],
    "properties": {
        "journal": {"type": "string"}, "work_s": {"type": "number"}, "fail": {"enum": ["once", "never", "away"]},
    },
}  # fmt: skip
_COMPONENTS = {
    "task/effect": {"spec_schema": _SPEC},
    "task/effect-brief": {"spec_schema": _SPEC, "capabilities": ["brief"]},
    "task/noop-brief": {"spec_schema": {"type": "object"}, "capabilities": ["brief"]},
}


def make_plugin(folder: Path) -> list[str]:
    """The source folder, made, as flags for hypersdkd."""
    package = folder / "src" / "hypersdk_task_effect"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "hypersdk-task-effect"\nversion = "1.0"\ndescription = "Counted side effects"\n\n'
        '[project.entry-points."hypersdk.task"]\neffect = "hypersdk_task_effect:Effect"\n'
        'effect-brief = "hypersdk_task_effect:EffectBrief"\nnoop-brief = "hypersdk_task_effect:Noop"\n'
    )
    manifest = {
        "manifest_version": 1, "name": "hypersdk-task-effect", "api_version": "1.0", "summary": "Counted side effects",
        "components": _COMPONENTS,
    }  # fmt: skip
    (package / "manifest.json").write_text(json.dumps(manifest))
    (package / "__init__.py").write_text(CODE)
    return ["--plugin-paths", str(folder)]


def effects(journal: Path) -> Counter[tuple[str, int]]:
    """(job, attempt) → how often it had its effect."""
    lines = journal.read_text().split("\n") if journal.exists() else []
    assert not lines or lines.pop() == "", "a torn line"
    found = (line.split() for line in lines)
    return Counter((job, int(attempt)) for job, attempt in found)
