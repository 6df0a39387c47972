"""Cases of the image engine against qemu-img: whole process wall time, medians, in turns.

A source is warm in the page cache for both. Both write to the same file system, and both targets are removed outside
of the
measured time. Ours ends with a sync of the file (it promises that the final name means complete and on disk),
qemu-img's does
not; rows named `…-nosync` leave it out of ours, which is like for like.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import disks
from tests.bench.rows import Row, case, ratio, seconds, side_by_side

BIN = Path(sys.executable).parent
MIB = 1 << 20
PLAIN = ("vmdk", "qcow2", "vdi", "vpc", "vhdx")
COMPRESSED = ("stream", "qcow2c", "qcow2z")


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def ours(source: str, target: str, src: Path, dst: Path, *more: str) -> None:
    run(BIN / "hyperctl", "image", "convert", "-f", disks.driver(source), *disks.FORMATS[target], *more, src, dst)


def qemu(source: str, target: str, src: Path, dst: Path) -> None:
    run("qemu-img", "convert", "-f", disks.driver(source), *disks.FORMATS[target], src, dst)


def pair(source: str, target: str, must: float | None, rounds: int = 5) -> Iterator[Row]:
    src = disks.image(source)
    mine, theirs = disks.FOLDER / f"ours.{target}", disks.FOLDER / f"qemu.{target}"

    def clear() -> None:
        mine.unlink(missing_ok=True)
        theirs.unlink(missing_ok=True)
        os.sync()

    warm(src)
    name = f"image-convert-{source}-{target}"
    times = side_by_side(
        lambda: ours(source, target, src, mine, "--no-sync"),
        lambda: qemu(source, target, src, theirs),
        rounds=rounds,
        between=clear,
    )
    yield ratio(f"{name}-nosync", *times, "qemu-img", must)
    if target in COMPRESSED:
        ours(source, target, src, mine)
        qemu(source, target, src, theirs)
        yield ratio(f"{name}-size", mine.stat().st_size / MIB, theirs.stat().st_size / MIB, "MiB by qemu-img", 1.05)
    synced = []
    for _ in range(min(rounds, 3)):
        clear()
        synced.append(seconds(lambda: ours(source, target, src, mine)))
    yield ratio(name, statistics.median(synced), times[1], "qemu-img, which does not sync", must)
    clear()


def warm(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(16 * MIB):
            pass


def _register(source: str, target: str, must: float, rounds: int = 5) -> None:
    case(f"image-convert-{source}-{target}")(lambda: pair(source, target, must, rounds))


for _source in PLAIN:
    for _target in ("raw", *PLAIN):
        _register(_source, _target, 0.7)
for _target in ("raw", *PLAIN):
    _register("raw", _target, 1.3)
for _source in COMPRESSED:
    for _target in ("raw", "qcow2"):
        _register(_source, _target, 0.3)
for _target in COMPRESSED:
    _register("raw", _target, 0.15, rounds=3)
_register("vmdk", "stream", 0.15, rounds=1)


@case("image-copy-cp")
def copy_against_cp() -> Iterator[Row]:
    """A raw disk copied by us, synced and not, and by `cp --sparse=always`."""
    src = disks.mixed()
    mine, theirs = disks.FOLDER / "ours.raw", disks.FOLDER / "cp.raw"

    def clear() -> None:
        mine.unlink(missing_ok=True)
        theirs.unlink(missing_ok=True)
        os.sync()

    warm(src)
    for name, more in (("image-copy-cp", ()), ("image-copy-cp-nosync", ("--no-sync",))):
        times = side_by_side(
            lambda more=more: ours("raw", "raw", src, mine, *more),  # type: ignore[misc]
            lambda: run("cp", "--sparse=always", src, theirs),
            between=clear,
        )
        yield ratio(name, *times, "cp --sparse=always")
    clear()


@case("image-compare")
def compare() -> Iterator[Row]:
    base = disks.mixed()
    for kind in ("qcow2", "vmdk", "qcow2c"):
        other = disks.image(kind)
        warm(other)
        driver = disks.driver(kind)
        times = side_by_side(
            lambda driver=driver, other=other: run(  # type: ignore[misc]
                BIN / "hyperctl", "image", "compare", "-f", "raw", "-F", driver, base, other
            ),
            lambda driver=driver, other=other: run("qemu-img", "compare", "-f", "raw", "-F", driver, base, other),  # type: ignore[misc]
        )
        yield ratio(f"image-compare-raw-{kind}", *times, "qemu-img", 1.0)


def _verb(verb: str, kinds: Sequence[str], *more: str) -> Iterator[Row]:
    for kind in kinds:
        path = disks.image(kind)
        warm(path)
        driver = disks.driver(kind)
        times = side_by_side(
            lambda driver=driver, path=path: run(BIN / "hyperctl", "image", verb, *more, "-f", driver, path),  # type: ignore[misc]
            lambda driver=driver, path=path: run("qemu-img", verb, *more, "-f", driver, path),  # type: ignore[misc]
        )
        yield ratio(f"image-{verb}-{kind}", *times, "qemu-img", 1.0)


@case("image-check")
def check() -> Iterator[Row]:
    yield from _verb("check", ("qcow2", "vmdk", "vdi", "vhdx", "qcow2c"))


@case("image-map")
def mapping() -> Iterator[Row]:
    yield from _verb("map", ("raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"), "--output", "json")


@case("image-start")
def start() -> Iterator[Row]:
    """`hyperctl image info` of a small QCOW2, whole process."""
    path = disks.FOLDER / "small.qcow2"
    disks.FOLDER.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    run("qemu-img", "create", "-f", "qcow2", path, "1G")
    times = side_by_side(
        lambda: run(BIN / "hyperctl", "image", "info", path), lambda: run("qemu-img", "info", path), rounds=9
    )
    yield Row("image-start", times[0], "s", times[0], times[1], "qemu-img info", 0.2)


@case("image-memory")
def memory() -> Iterator[Row]:
    """Peak resident memory and time of a conversion of 1 GiB of data in a small and in a 16 TiB virtual disk."""
    for target in ("qcow2", "vmdk", "stream", "qcow2c", "vhdx"):
        figures = {}
        for label, size in (("small", 1152 * MIB), ("huge", 15 << 40)):
            src = disks.mixed(size=size, name=f"{label}.raw")
            warm_data(src)
            dst = disks.FOLDER / f"ours-memory.{target}"
            runs = []
            for _ in range(3):
                dst.unlink(missing_ok=True)
                runs.append(measured(target, src, dst))
            dst.unlink(missing_ok=True)
            figures[label] = (statistics.median(r[0] for r in runs), max(r[1] for r in runs))
        yield ratio(f"image-huge-{target}", figures["huge"][0], figures["small"][0], "the same data in 1.1 GiB", 1.3)
        for label in figures:
            peak = figures[label][1]
            yield Row(f"image-memory-{target}-{label}", peak, "MiB", peak, None, None, 120.0)


def measured(target: str, src: Path, dst: Path) -> tuple[float, float]:
    """Seconds and peak resident MiB of one conversion, by a small process of its own that waits for it."""
    script = (
        "import json,resource,subprocess,sys,time; t=time.perf_counter(); subprocess.run(sys.argv[1:],check=True);"
        "print(json.dumps([time.perf_counter()-t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024]))"
    )
    command = [BIN / "hyperctl", "image", "convert", "-f", "raw", *disks.FORMATS[target], "--no-sync", src, dst]
    done = subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True, text=True)
    spent, peak = json.loads(done.stdout)
    return spent, peak


def warm_data(path: Path) -> None:
    """Read what is not a hole."""
    with path.open("rb") as file:
        offset, end = 0, path.stat().st_size
        while offset < end:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return
            offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            position = start
            while position < offset:
                position += len(os.pread(file.fileno(), min(16 * MIB, offset - position), position))
