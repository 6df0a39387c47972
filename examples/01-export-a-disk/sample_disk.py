"""A real disk to try things on: an MBR, one ext4 partition, files in it. Needs no root and no mount, only mkfs.ext4.

    python sample_disk.py OUT.img [--size 256MiB] [--data 96MiB]

The files' content is made from a fixed seed; only their times differ from one run to the next.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

MIB = 1 << 20
PARTITION_OFFSET = MIB
SECTOR = 512
UUID = "5eed5eed-0000-4000-8000-00000000d15c"


def find_mkfs() -> str:
    """mkfs.ext4's path. Raises SystemExit naming the package when there is none."""
    found = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise SystemExit("mkfs.ext4 is not on this machine; it is in the package e2fsprogs")
    return found


def fill(folder: Path, data_bytes: int, seed: int = 1) -> None:
    """Files as a guest has them: text, random bytes that do not compress, a sparse file, a deep folder, a link."""
    rng = random.Random(seed)
    (folder / "etc").mkdir()
    (folder / "etc" / "hostname").write_text("sample-machine\n")
    words = [rng.randbytes(5).hex() for _ in range(2000)]
    log = folder / "var" / "log"
    log.mkdir(parents=True)
    per_log = data_bytes // 4
    for name in ("messages", "audit"):
        with (log / name).open("w") as file:
            while file.tell() < per_log:
                file.write(" ".join(rng.choices(words, k=400)) + "\n")
    (folder / "srv").mkdir()
    for index in range(8):
        (folder / "srv" / f"blob-{index}.bin").write_bytes(rng.randbytes(data_bytes // 16))
    with (folder / "srv" / "sparse.db").open("wb") as file:
        file.truncate(32 * MIB)
        file.write(b"head")
        file.seek(31 * MIB)
        file.write(b"tail")
    deep = folder.joinpath(*["deep"] * 12)
    deep.mkdir(parents=True)
    (deep / "leaf.txt").write_text("still here\n")
    (folder / "etc" / "name").symlink_to("hostname")


def build(out: Path, size: int, data_bytes: int, seed: int = 1) -> None:
    """Write the disk image `out` of `size` bytes (a multiple of 1 MiB, at least twice `data_bytes` + 64 MiB)."""
    if size % MIB or size < 2 * data_bytes + 64 * MIB:
        raise SystemExit("--size must be a multiple of 1MiB and at least 2 × --data + 64MiB")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        fill(root, data_bytes, seed)
        with out.open("wb") as file:
            file.truncate(size)
            file.write(partition_table(size))
        blocks = (size - PARTITION_OFFSET) // 4096
        subprocess.run(
            [find_mkfs(), "-q", "-F", "-b", "4096", "-L", "sample", "-U", UUID, "-d", str(root),
             "-E", f"offset={PARTITION_OFFSET},hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0",
             str(out), str(blocks)],
            check=True,
        )  # fmt: skip


def partition_table(size: int) -> bytes:
    """A master boot record with one Linux partition from 1 MiB to the end."""
    first, count = PARTITION_OFFSET // SECTOR, (size - PARTITION_OFFSET) // SECTOR
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", first, count)
    return bytes(440) + struct.pack("<IH", 0x5EED5EED, 0) + entry + bytes(48) + b"\x55\xaa"


def check_file_system(image: Path) -> str:
    """The verdict of e2fsck on the partition of a raw image, read-only; raises SystemExit when it finds a fault."""
    e2fsck = shutil.which("e2fsck", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if e2fsck is None:
        raise SystemExit("e2fsck is not on this machine; it is in the package e2fsprogs")
    done = subprocess.run(
        [e2fsck, "-fn", f"{image}?offset={PARTITION_OFFSET}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"e2fsck found faults in {image.name}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(text: str) -> int:
    units = {"MiB": MIB, "GiB": 1 << 30}
    number, unit = text[:-3], text[-3:]
    if unit not in units or not number.isdigit():
        raise argparse.ArgumentTypeError("write sizes as 256MiB or 4GiB")
    return int(number) * units[unit]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=_bytes, default=256 * MIB)
    parser.add_argument("--data", type=_bytes, default=64 * MIB)
    args = parser.parse_args()
    build(args.out, args.size, args.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
