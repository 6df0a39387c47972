"""`python fuzz_child.py FORMAT FIRST_SEED SECONDS IMAGE…`: open, map, read and check damaged images until time is up.

Allowed are errors of the HyperError tree and reads of the right length. Anything else, more CPU or memory than an image
may cost, or extents that do not cover the disk ends it with status 1, after what and a line `seed N of IMAGE`. The seed
that is tried now is on stdout, so that a crash of the interpreter has a seed, too. One seed alone: SECONDS 0.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
import traceback
from itertools import islice
from pathlib import Path

from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry
from hypersdk.data.source import BlockSource
from hypersdk.errors import HyperError
from hypersdk.plugin.image_format import PROBE_BYTES, ImageFormat

sys.path.insert(0, str(Path(__file__).parent))
from mutations import mutate  # beside this script, which is run by its path

MIB = 1 << 20
CPU_SECONDS = 2.0
"""Of one image, opened, mapped and checked; the promise is 1 s, this machine may be busy."""
MEMORY_BYTES = 256 * MIB
_EXTENTS = 50_000
_READS = 48
_CHUNK = 65536


class Fault(Exception):
    """What was promised and not kept."""


def main(name: str, first: int, seconds: float, samples: list[Path]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    cpu = int(seconds * 2) + 60
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    image_format = FormatRegistry.installed().get(name)
    originals = [path.read_bytes() for path in samples]
    for path in samples:
        try_image(image_format, path)  # imports what there is, and proves that the sample is sound
    seed, end, tried = first, time.monotonic() + seconds, 0
    while not tried or time.monotonic() < end:
        number = seed % len(samples)
        print(f"seed {seed} of {samples[number].parent.name}", flush=True)
        rng = random.Random(seed)
        image = bytearray(originals[number])
        mutate(image, rng, name)
        put(samples[number], originals[number], image)
        try:
            try_image(image_format, samples[number])
        except HyperError:
            pass  # a typed error is what a damaged image should give
        except Exception:  # noqa: BLE001 - every other one is a finding
            traceback.print_exc()
            print(f"seed {seed} of {samples[number].parent.name}", file=sys.stderr)
            return 1
        finally:
            put(samples[number], image, originals[number])
        seed += 1
        tried += 1
    print(f"{tried} images", flush=True)
    return 0


def try_image(image_format: ImageFormat, path: Path) -> None:
    """Raises Fault, or whatever escapes."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts anew
    before = _peak_bytes()
    try:
        with ImageFile.open(path) as file:
            size = file.size
            head, tail = file.pread(0, min(size, PROBE_BYTES)), file.pread(size - min(size, 512), min(size, 512))
            if not 0 <= image_format.probe(head, tail, size) <= 100:
                raise Fault("probe is outside 0 to 100")
        spent = [0.0]
        failures = [opened(image_format, path, spent), checked(image_format, path, spent)]
        if sum(spent) > CPU_SECONDS:
            raise Fault(f"opening, mapping and checking took {sum(spent):.1f} s of CPU")
        for failure in failures:
            if failure is not None:
                raise failure
    finally:
        grown = _peak_bytes() - before
        if grown > MEMORY_BYTES:
            raise Fault(f"{grown >> 20} MiB of memory")


def opened(image_format: ImageFormat, path: Path, spent: list[float]) -> HyperError | None:
    """Open, map, read. The typed error that this gave; seconds of CPU without those of reading go to `spent`."""
    cpu = time.process_time()
    try:
        with image_format.open(ImageFile.open(path), {}) as source:
            source.info()
            extents = mapped(source)
            spent.append(time.process_time() - cpu)
            read(source, extents)
    except HyperError as exc:
        if len(spent) == 1:
            spent.append(time.process_time() - cpu)
        return exc
    return None


def checked(image_format: ImageFormat, path: Path, spent: list[float]) -> HyperError | None:
    cpu = time.process_time()
    try:
        with ImageFile.open(path) as file:
            image_format.check(file)
    except HyperError as exc:
        return None if exc.reason == "CHECK_UNSUPPORTED" else exc
    finally:
        spent.append(time.process_time() - cpu)
    return None


def put(path: Path, held: bytes | bytearray, wanted: bytes | bytearray) -> None:
    """Make the file, which holds `held`, hold `wanted`, writing little."""
    with path.open("r+b") as file:
        for at in range(0, len(wanted), _CHUNK):
            if held[at : at + _CHUNK] != wanted[at : at + _CHUNK]:
                file.seek(at)
                file.write(wanted[at : at + _CHUNK])
        file.truncate(len(wanted))


def mapped(source: BlockSource) -> list[Extent]:
    """The first extents, which must follow each other."""
    at, found = 0, list(islice(source.extents(), _EXTENTS))
    for extent in found:
        if extent.offset != at or extent.length <= 0:
            raise Fault(f"extent {extent} does not begin at {at}")
        at = extent.end
    if len(found) < _EXTENTS and at != source.size:
        raise Fault(f"extents end at {at} of {source.size}")
    return found


def read(source: BlockSource, extents: list[Extent]) -> None:
    """At the edges of extents. A typed error of one read does not end the others."""
    chosen = extents[: _READS // 2] + extents[len(extents) // 2 :][: _READS // 4] + extents[-_READS // 4 :]
    failed: HyperError | None = None
    for extent in chosen:
        for offset in {extent.offset, max(0, extent.offset - 700), max(extent.offset, extent.end - 4096)}:
            length = min(4096, source.size - offset)
            buffer = bytearray(b"\xa5" * (length + 16))
            try:
                source.readinto(offset, memoryview(buffer)[:length])
                judge(source, extent, offset, buffer, length)
            except HyperError as exc:
                failed = exc
    if failed is not None:
        raise failed


def judge(source: BlockSource, extent: Extent, offset: int, buffer: bytearray, length: int) -> None:
    if buffer[length:] != b"\xa5" * 16:
        raise Fault(f"a read of {length} bytes at {offset} wrote behind its buffer")
    inside = buffer[max(0, extent.offset - offset) : min(length, extent.end - offset)]
    if extent.kind == ExtentKind.ZERO and any(inside):
        raise Fault(f"{extent} is not zero")
    if extent.kind == ExtentKind.DATA:
        part = min(extent.length, MIB)
        ranges = source.file_ranges(extent.offset, part)
        if ranges is not None and sum(r.length for r in ranges) != part:
            raise Fault(f"file ranges of {part} bytes at {extent.offset} have another length")


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), [Path(a) for a in sys.argv[4:]]))
