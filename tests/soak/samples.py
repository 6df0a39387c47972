"""Small images of every format to be mutated: written by qemu-img, by us, and by the builders of the read-only formats'
own tests. Little data, so that most bytes are structure."""

from __future__ import annotations

import importlib.util
import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from hypersdk.data.images import FormatRegistry, convert

ROOT = Path(__file__).parents[2]
MIB = 1 << 20

BY_QEMU: Mapping[str, Sequence[str]] = {
    "qcow2": ("", "cluster_size=512", "compat=0.10", "extended_l2=on", "-c", "-c compression_type=zstd",
              "preallocation=metadata", "lazy_refcounts=on"),
    "vmdk": ("", "subformat=streamOptimized", "subformat=monolithicFlat", "subformat=twoGbMaxExtentSparse"),
    "vpc": ("", "subformat=fixed"), "vdi": ("", "static=on"), "vhdx": ("block_size=1M", "subformat=fixed"),
    "qcow": ("",), "qed": ("", "cluster_size=4096"), "parallels": ("",),
}  # fmt: skip
BY_US: Mapping[str, Sequence[Mapping[str, str]]] = {
    "qcow2": ({}, {"compress": "on"}, {"cluster_size": "512"}), "vmdk": ({}, {"subformat": "streamOptimized"}),
    "vpc": ({},), "vdi": ({},), "vhdx": ({"block_size": "1M"},), "ova": ({},), "raw": ({},),
}  # fmt: skip


def build(name: str, folder: Path) -> list[Path]:
    """Images of format `name` below `folder`, each in a directory of its own with whatever files it names."""
    raw = folder / "disk.raw"
    _disk(raw)
    made: list[Path] = []

    def place() -> Path:
        directory = folder / f"{name}-{len(made)}"
        directory.mkdir()
        made.append(directory / f"disk.{name}")
        return made[-1]

    if shutil.which("qemu-img"):
        for words in BY_QEMU.get(name, ()):
            more = [part for word in words.split() for part in ((word,) if word == "-c" else ("-o", word))]
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", name, *more, raw, place()], check=True)
    for options in BY_US.get(name, ()):
        convert(raw, place(), registry=FormatRegistry.installed(), src_format="raw", dst_format=name, options=options)
    for image in _by_builders(name):
        place().write_bytes(image)
    raw.unlink()
    return made


def _disk(path: Path) -> None:
    rng = random.Random(11)
    with path.open("wb") as file:
        file.truncate(3 * MIB + 512)
        for offset in (0, 65536 - 512, 300_032, MIB, 2 * MIB + 4096, 3 * MIB):
            file.seek(offset)
            file.write(rng.randbytes(512) if offset % 4096 else b"text " * 900)


def _by_builders(name: str) -> list[bytes]:
    if name == "bochs":
        tests = _module("bochs")
        return [tests.build(), tests.build(65536, version=1)]
    if name == "cloop":
        tests = _module("cloop")
        return [tests.build(65536), tests.build(3584, gap=40)]
    if name == "dmg":
        tests = _module("dmg")
        kinds = [tests.ZERO, tests.RAW, tests.ZLIB, tests.IGNORE, tests.ADC, tests.BZIP2, tests.XZ]
        return [tests.build(kinds), tests.build(kinds, tables=1)]
    return []


def _module(name: str) -> ModuleType:
    path = ROOT / "plugins" / f"format-{name}" / "tests" / f"test_{name}_reading.py"
    spec = importlib.util.spec_from_file_location(f"fuzzed_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
