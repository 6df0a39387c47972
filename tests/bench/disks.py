"""The disks that image cases run on: 4 GiB with 1 GiB of mixed data, built once under build/bench/disks."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
FOLDER = Path("build/bench/disks")

FORMATS: dict[str, Sequence[str]] = {
    "raw": ("-O", "raw"),
    "vmdk": ("-O", "vmdk"),
    "qcow2": ("-O", "qcow2"),
    "vdi": ("-O", "vdi"),
    "vpc": ("-O", "vpc"),
    "vhdx": ("-O", "vhdx"),
    "stream": ("-O", "vmdk", "-o", "subformat=streamOptimized"),
    "qcow2c": ("-O", "qcow2", "-c"),
    "qcow2z": ("-O", "qcow2", "-c", "-o", "compression_type=zstd"),
}
"""What qemu-img is told for each kind of image."""

DRIVER = {"stream": "vmdk", "qcow2c": "qcow2", "qcow2z": "qcow2"}


def mixed(size: int = 4 * GIB, data: int = GIB, name: str = "base.raw") -> Path:
    """A raw disk: a third of the data random, a third text-like, a third programs and libraries of this machine, in
    runs of
    64 KiB to 16 MiB with holes between them, as file systems leave it."""
    path = FOLDER / name
    if path.exists() and path.stat().st_size == size:
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20)
    words = [rng.randbytes(rng.randrange(2, 6)).hex().encode() for _ in range(4000)]
    text = b" ".join(rng.choices(words, k=3 * MIB))
    programs = b"".join(_programs(256 * MIB))
    written, offset = 0, 0
    gap = (size - data) // 200
    with path.with_suffix(".new").open("wb") as file:
        file.truncate(size)
        while written < data:
            length = min(rng.choice([65536, 262144, MIB, 4 * MIB, 16 * MIB]), data - written)
            kind = rng.randrange(3)
            if kind == 0:
                block = rng.randbytes(length)
            else:
                pool = text if kind == 1 else programs
                start = rng.randrange(0, max(1, len(pool) - length))
                block = pool[start : start + length]
            file.seek(offset)
            file.write(block)
            written += len(block)
            offset = min(offset + len(block) + rng.randrange(0, gap) // 65536 * 65536, size - 17 * MIB)
            if offset >= size - 17 * MIB:
                offset = rng.randrange(0, size // 2) // 65536 * 65536 + 4096
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".new").rename(path)
    return path


def image(kind: str, base: Path | None = None) -> Path:
    """The disk in another format, written by qemu-img."""
    base = base or mixed()
    if kind == "raw":
        return base
    path = base.with_name(f"{base.stem}.{kind}")
    if not path.exists() or path.stat().st_mtime < base.stat().st_mtime:
        subprocess.run(["qemu-img", "convert", "-f", "raw", *FORMATS[kind], base, path], check=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return path


def driver(kind: str) -> str:
    """qemu-img's name of a kind's format."""
    return DRIVER.get(kind, kind)


def _programs(size: int) -> list[bytes]:
    out, total = [], 0
    for path in sorted(Path("/usr/lib").rglob("*.so*")) + sorted(Path("/usr/bin").iterdir()):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > 65536:
            out.append(path.read_bytes())
            total += len(out[-1])
            if total >= size:
                break
    return out
