"""Images with known content, made in a moment."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

MIB = 1 << 20


def scattered(path: Path, size: int, data_mib: int, seed: int = 7) -> str:
    """A sparse raw image of `size` bytes with `data_mib` MiB of random data in odd places; its SHA-256."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(data_mib):
            file.seek(rng.randrange(0, size - MIB) // 512 * 512)
            file.write(rng.randbytes(MIB))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same(a: Path, b: Path) -> None:
    """qemu-img finds no difference in content, and no fault in the second where its format has a check."""
    done = subprocess.run(["qemu-img", "compare", a, b], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if b.suffix == ".qcow2":
        done = subprocess.run(["qemu-img", "check", b], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
