"""Case `image-matrix`: every kind of image to every other, once, against qemu-img; the table goes into docs/formats.md.

The disk has 1 GiB with 256 MiB of data, the sources are qemu-img's and warm. Neither side waits for the disk. What
we write must be equal to the source by `qemu-img compare`, whose time is not counted. One run of each pair: a look at
all of them, not a measurement (the other cases are that).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench import disks
from tests.bench.image import ours, qemu, warm
from tests.bench.rows import Row, case, ratio, seconds

PAGE = Path("docs/formats.md")
START, END = "<!-- matrix -->", "<!-- /matrix -->"
NAMES = {
    "stream": "vmdk streamOptimized", "qcow2c": "qcow2 -c zlib", "qcow2z": "qcow2 -c zstd",
}  # fmt: skip


@case("image-matrix")
def matrix() -> Iterator[Row]:
    base = disks.mixed(size=disks.GIB, data=256 * disks.MIB, name="matrix.raw")
    cells: dict[tuple[str, str], str] = {}
    for source in disks.FORMATS:
        src = disks.image(source, base)
        warm(src)
        for target in disks.FORMATS:
            mine, theirs = disks.FOLDER / f"ours-matrix.{target}", disks.FOLDER / f"qemu-matrix.{target}"
            clear(mine, theirs)
            spent = seconds(lambda: ours(source, target, src, mine, "--no-sync"))  # noqa: B023 - called at once
            peer = seconds(lambda: qemu(source, target, src, theirs))  # noqa: B023 - called at once
            same = equal(base, mine, disks.driver(target))
            clear(mine, theirs)
            cells[source, target] = f"{spent:.2f} / {peer:.2f}" + ("" if same else " **differs**")
            yield ratio(f"image-matrix-{source}-{target}", spent, peer, "qemu-img")
    write(cells)
    wrong = [f"{source} to {target}" for (source, target), cell in cells.items() if "differs" in cell]
    if wrong:
        raise AssertionError(f"not what it was: {', '.join(wrong)}")


def clear(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    os.sync()


def equal(base: Path, made: Path, driver: str) -> bool:
    done = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", driver, base, made], stdout=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def table(cells: dict[tuple[str, str], str]) -> str:
    kinds = list(disks.FORMATS)
    head = "| from \\ to | " + " | ".join(NAMES.get(kind, kind) for kind in kinds) + " |"
    lines = [head, "|---" * (len(kinds) + 1) + "|"]
    lines += [
        f"| {NAMES.get(source, source)} | " + " | ".join(cells[source, target] for target in kinds) + " |"
        for source in kinds
    ]
    return "\n".join(lines)


def write(cells: dict[tuple[str, str], str]) -> None:
    """Replace what is between the markers."""
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    done = sum("differs" not in cell for cell in cells.values())
    intro = (
        f"Seconds ours / qemu-img's, whole processes; {done} of {len(cells)} pairs identical by `qemu-img compare`; "
        f"{os.cpu_count()} cores."
    )
    PAGE.write_text(f"{before}{START}\n{intro}\n\n{table(cells)}\n{END}{after}")
