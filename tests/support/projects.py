"""Plugins made from the templates, and their wheels: built offline by hatchling, as their authors would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypersdk.templates import plan

REPOSITORY = Path(__file__).parents[2]


def write_plugin(folder: Path, kind: str, name: str = "acme") -> Path:
    """The source folder of a fresh plugin."""
    scaffold = plan(kind, name, folder / f"{kind}-{name}")
    scaffold.write()
    return scaffold.directory


def build_wheel(project: Path, out: Path) -> Path:
    """In this process's child, because a build backend works on the current directory."""
    script = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


def environment_with(folder: Path, wheels: list[Path]) -> Path:
    """A virtual environment that has `wheels` installed, and behind them all that this interpreter has. Its python."""
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True, capture_output=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    paths = [p for p in sys.path if p.endswith("site-packages")]
    (site / "behind.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in paths))
    install = [uv, "pip", "install", "-q", "--python", folder / "bin" / "python", "--no-deps", "--no-index", *wheels]
    subprocess.run(install, check=True, capture_output=True, env={**os.environ, "UV_OFFLINE": "1"})
    return folder / "bin" / "python"
