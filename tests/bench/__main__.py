"""`python -m tests.bench [GLOB]`: run the cases whose names match, print a table, write build/bench/<group>.json.

A group's file keeps the rows of cases that did not run this time. Exit status 1 only when a case could not be
measured.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
import pkgutil
import sys
import traceback
from pathlib import Path

import tests.bench as package
from tests.bench.rows import CASES, Row, table

OUT = Path("build/bench")


def main(pattern: str) -> int:
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in {"__main__", "rows"}:
            importlib.import_module(f"{package.__name__}.{module.name}")
    chosen = [name for name in sorted(CASES) if fnmatch.fnmatchcase(name, pattern) or pattern == "*"]
    if not chosen:
        print(f"no case matches {pattern!r}; there are: {', '.join(sorted(CASES))}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    broken = 0
    for name in chosen:
        print(f"… {name}", file=sys.stderr, flush=True)
        try:
            rows += CASES[name]()
        except Exception:  # noqa: BLE001 - the other cases are still worth measuring
            traceback.print_exc()
            broken += 1
    write(rows)
    print("\n".join(table(rows)))
    return 1 if broken else 0


def write(rows: list[Row]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for group in {row.case.partition("-")[0] for row in rows}:
        path = OUT / f"{group}.json"
        kept = {r["case"]: r for r in json.loads(path.read_text())} if path.exists() else {}
        kept |= {r.case: r.to_json() for r in rows if r.case.startswith(f"{group}-")}
        path.write_text(json.dumps([kept[name] for name in sorted(kept)], indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "*"))
