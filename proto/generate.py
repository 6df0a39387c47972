"""Generate `hypersdk.api` from proto/: messages, gRPC stubs and their type stubs, and one descriptor set.

    python proto/generate.py [--check] sdk/python/src

`--check` writes nothing and exits 1 when the committed files differ. Not a build system: it is run by `make proto`.
The validation rules' own module is kept inside our package (`hypersdk.api.buf`), so that installing the SDK never
claims the top-level name `buf`.
"""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO = Path(__file__).parent
INCLUDE = PROTO.parent / "build" / "proto-include"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
BIN = Path(sys.executable).parent
HEADER = '"""Generated from proto/ by `make proto`; do not edit."""\n'


def generate(out: Path) -> None:
    """Fill the empty folder `out` with the package tree below it. Raises SystemExit when protoc fails."""
    sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    arguments = [
        "protoc", f"-I{PROTO}", f"-I{INCLUDE}", f"-I{WELL_KNOWN}", f"--python_out={out}", f"--grpc_python_out={out}",
        *(f"--plugin=protoc-gen-{name}={BIN / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")),
        f"--mypy_out=quiet:{out}", f"--mypy_grpc_out={out}", *sources,
    ]  # fmt: skip
    code = protoc.main(arguments)
    if code != 0:
        raise SystemExit(code)
    (out / "hypersdk" / "api" / "buf").parent.mkdir(parents=True, exist_ok=True)
    shutil.move(str(out / "buf"), str(out / "hypersdk" / "api" / "buf"))
    for path in sorted(out.rglob("*_pb2_grpc.py")):
        if "Stub" not in path.read_text():  # a file without services: grpc_tools writes an empty module all the same
            path.unlink()
            path.with_suffix(".pyi").unlink()
    for path in sorted(out.rglob("*")):
        if path.suffix in {".py", ".pyi"}:
            text = path.read_text()
            text = re.sub(r"(?m)^from buf\.validate import", "from hypersdk.api.buf.validate import", text)
            path.write_text(text)
    for folder in sorted({p.parent for p in out.rglob("*.py")}):
        while folder != out / "hypersdk":
            (folder / "__init__.py").write_text(HEADER)
            folder = folder.parent


def differences(fresh: Path, committed: Path) -> list[str]:
    """Relative names that are missing, superfluous or different in `committed`."""
    names = {p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file()}
    there = {p.relative_to(committed) for p in committed.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    changed = {n for n in names & there if not filecmp.cmp(fresh / n, committed / n, shallow=False)}
    return sorted(str(n) for n in (names ^ there) | changed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("target", type=Path, help="folder that holds the package hypersdk")
    args = parser.parse_args()
    committed = args.target / "hypersdk" / "api"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        fresh = out / "hypersdk" / "api"
        if args.check:
            stale = differences(fresh, committed)
            for name in stale:
                print(f"stale: {committed / name}; run `make proto`", file=sys.stderr)  # noqa: T201
            return 1 if stale else 0
        shutil.rmtree(committed, ignore_errors=True)
        shutil.copytree(fresh, committed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
