"""A disk read from an NBD server into a raw file: ours, nbdcopy (libnbd, where it is installed) and qemu-img, whole
processes, without a final sync."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import disks
from tests.bench.rows import Row, case, ratio, side_by_side

_COPY = """
import sys
from pathlib import Path
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry
from hypersdk.data.nbd import NbdAddress, NbdSource
from hypersdk.data.pipeline import copy
with NbdSource(NbdAddress(path=sys.argv[1])) as source, ImageFile.create(Path(sys.argv[2])) as file:
    file.durable = False
    copy(source, FormatRegistry.installed().get("raw").create(file, source.size, {}))
"""


@case("image-nbd-read")
def read() -> Iterator[Row]:
    source = disks.mixed()
    socket, target = disks.FOLDER.absolute() / "nbd.socket", disks.FOLDER.absolute() / "nbd.raw"
    uri = f"nbd+unix:///?socket={socket}"
    size = source.stat().st_size
    servers = {
        "qemu": ["qemu-nbd", "-r", "-t", "-e", "8", "-f", "raw", "-k", str(socket), str(source)],
        "nbdkit": ["nbdkit", "-f", "-r", "-U", str(socket), "file", str(source)],
    }
    peers = {
        "qemu-img": ["qemu-img", "convert", "-n", "-O", "raw", uri, str(target)],
        "nbdcopy": ["nbdcopy", uri, str(target)],
    }

    def clear() -> None:
        target.unlink(missing_ok=True)

    def theirs(command: Sequence[str]) -> None:
        with target.open("wb") as file:
            file.truncate(size)
        subprocess.run(command, check=True)

    for name, server in servers.items():
        with _running(server, socket):
            for peer, command in peers.items():
                if shutil.which(peer) is None:
                    continue
                times = side_by_side(
                    lambda: subprocess.run([sys.executable, "-c", _COPY, socket, target], check=True),
                    lambda command=command: theirs(command),  # type: ignore[misc]
                    rounds=3,
                    between=clear,
                )
                yield ratio(f"image-nbd-read-{name}-{peer}", *times, peer)
    clear()


@contextlib.contextmanager
def _running(server: Sequence[str], socket: Path) -> Iterator[None]:
    socket.unlink(missing_ok=True)
    with subprocess.Popen(server, stdin=subprocess.DEVNULL) as process:
        try:
            while not socket.exists() and process.poll() is None:
                time.sleep(0.02)
            time.sleep(0.2)  # there before it listens
            yield
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                os.unlink(socket)
