"""A file system goes through every writable format in a ring and comes back as it was.

Each step reads what the step before wrote, in another format, by `hyperctl image convert`; in the end the raw bytes are
the same and e2fsck finds the file system of examples/01-export-a-disk's disk clean.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HYPERCTL = Path(sys.executable).parent / "hyperctl"
MIB = 1 << 20
SIZE, PARTITION = 128 * MIB, MIB

RING = (
    ("vmdk",), ("qcow2",), ("vdi",), ("vpc",), ("vhdx",), ("vmdk", "-o", "subformat=streamOptimized"),
    ("qcow2", "-c"), ("qcow2", "-c", "-o", "compression_type=zstd"), ("ova",), ("raw",),
    ("qcow2", "-o", "cluster_size=512"), ("vpc", "-o", "subformat=fixed"), ("qcow2", "-o", "extended_l2=on"),
    ("vdi", "-o", "static=on"), ("vhdx", "-o", "subformat=fixed"), ("qcow2", "-o", "compat=0.10"),
    ("vmdk", "-o", "subformat=monolithicFlat"), ("vmdk", "-o", "subformat=twoGbMaxExtentSparse"), ("raw",),
)  # fmt: skip
READ_BY_QEMU = {"vmdk", "qcow2", "vdi", "vpc", "vhdx", "raw"}


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}"


def digest_and_rest(path: Path, size: int) -> tuple[str, bool]:
    """SHA-256 of the first `size` bytes, and whether anything but zeros follows."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        left = size
        while left and (data := file.read(min(MIB, left))):
            digest.update(data)
            left -= len(data)
        assert left == 0
        return digest.hexdigest(), any(any(data) for data in iter(lambda: file.read(MIB), b""))


@pytest.mark.peer
def test_a_file_system_is_identical_after_a_ring_through_all_writable_formats(tmp_path):
    e2fsck = shutil.which("e2fsck", path="/usr/sbin:/sbin:/usr/bin")
    if e2fsck is None:
        pytest.skip("e2fsck is not installed: apt-get install e2fsprogs")
    disk = tmp_path / "disk.raw"
    run(
        sys.executable, ROOT / "examples" / "01-export-a-disk" / "sample_disk.py", disk,
        "--size", "128MiB", "--data", "24MiB",
    )  # fmt: skip
    before, _ = digest_and_rest(disk, SIZE)
    source, source_format = disk, "raw"
    for number, (name, *more) in enumerate(RING):
        folder = tmp_path / f"step-{number:02}"
        folder.mkdir()
        target = folder / f"disk.{name}"
        run(HYPERCTL, "image", "convert", "-f", source_format, "-O", name, *more, "--no-sync", source, target)
        if name in READ_BY_QEMU:
            run("qemu-img", "compare", "-f", "raw", "-F", name, disk, target)
        if source != disk:
            shutil.rmtree(source.parent)
        source, source_format = target, name
    after, rest = digest_and_rest(source, SIZE)
    assert after == before
    assert not rest
    partition = tmp_path / "partition.img"
    with source.open("rb") as file, partition.open("wb") as out:
        file.seek(PARTITION)
        shutil.copyfileobj(file, out)
    run(e2fsck, "-fn", partition)
