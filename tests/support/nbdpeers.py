"""qemu-nbd and nbdkit on a unix socket, for as long as a test needs them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypersdk.data.nbd import NbdAddress, NbdSource
from hypersdk.errors import HyperError


def need(*programs: str) -> None:
    packages = {"qemu-nbd": "qemu-utils", "nbdkit": "nbdkit", "qemu-img": "qemu-utils", "qemu-io": "qemu-utils"}
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing; apt-get install {packages[program]}")


@contextlib.contextmanager
def qemu_nbd(folder: Path, image: Path, *arguments: str) -> Iterator[NbdAddress]:
    need("qemu-nbd")
    address = NbdAddress(path=str(folder / "qemu"))
    with _running(["qemu-nbd", "--persistent", "-k", address.path, *arguments, str(image)], address):
        yield address


@contextlib.contextmanager
def nbdkit(folder: Path, *arguments: str) -> Iterator[NbdAddress]:
    need("nbdkit")
    address = NbdAddress(path=str(folder / "kit"))
    with _running(["nbdkit", "-f", "-U", address.path, *arguments], address):
        yield address


@contextlib.contextmanager
def _running(command: list[str], address: NbdAddress) -> Iterator[None]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _answers(process, address)
            yield
        finally:
            process.kill()


def _answers(process: subprocess.Popen[bytes], address: NbdAddress) -> None:
    """Its socket is there before it listens."""
    for _ in range(500):
        try:
            NbdSource(address, timeout_s=10).close()
        except HyperError:
            assert process.poll() is None, "the server ended"
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"{process.args} does not answer")
