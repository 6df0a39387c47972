"""The whole product in a minute: a daemon, a real disk, an export with progress, a verified result, a report.

    make demo        or        python examples/01-export-a-disk/demo.py [--keep FOLDER]

Everything happens in a temporary folder; nothing is left, neither files nor processes. Each step is a command of
`hyperctl` that you can type yourself; it is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sample_disk
from hypersdk.api.jobs.v1.jobs_pb2 import Job
from hypersdk.client import Client

BIN = Path(sys.executable).parent
MIB = 1 << 20


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def hyperctl(*arguments: str, quiet: bool = False, show: bool = True) -> str:
    """Run a command as a user would; its talk and progress go to the terminal, its data is returned, and shown
    unless told
    otherwise."""
    if not quiet:
        print(f"$ hyperctl {shlex.join(arguments)}", flush=True)
    done = subprocess.run([BIN / "hyperctl", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"hyperctl {shlex.join(arguments)}: exit status {done.returncode}\n{done.stdout}")
    if show and not quiet:
        print(done.stdout, end="", flush=True)
    return done.stdout


@contextmanager
def daemon(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """hypersdkd on a state directory of its own, until the block ends."""
    with (state.parent / "hypersdkd.log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "hypersdkd", "--state-dir", state, "--tcp-port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 20
        while not (state / "hypersdkd.sock").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"hypersdkd did not start:\n{(state.parent / 'hypersdkd.log').read_text()}")
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def left_processes(folder: Path) -> list[str]:
    """Command lines of processes that still have to do with our folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if str(folder) in line or where.startswith(str(folder)):
                found.append(f"{entry.name} {line}")
    return found


def export(machine: str) -> dict[str, Any]:
    """Export the machine and wait; on a terminal hyperctl draws the bar, elsewhere we print a line per tenth."""
    command = ["export", machine, "--to", "exports", "--format", "qcow2", "--rate-limit", "48MiB"]
    if sys.stderr.isatty():
        return json.loads(hyperctl(*command, "--output", "json", show=False))
    name = hyperctl(*command, "--detach").strip()
    shown = -1

    def draw(job: Job) -> None:
        nonlocal shown
        done, total = job.progress.bytes_done, job.progress.bytes_total
        tenth = 10 * done // total if total > 0 else 0
        if tenth > shown:
            shown = tenth
            rate = job.progress.rate_bytes / MIB
            print(f"  {'#' * tenth:10} {done / MIB:5.0f}/{total / MIB:.0f} MiB {rate:6.1f} MiB/s  {job.progress.phase}")

    with Client() as client:
        client.jobs.wait(name, on_progress=draw)
    return json.loads(hyperctl("job", "get", name, "-o", "json", quiet=True))


def tree(folder: Path) -> list[tuple[str, int, int]]:
    """(name, size, bytes on disk) of the files below a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_blocks * 512) for p in files]


def run(folder: Path) -> None:
    state, platform, backups = folder / "state", folder / "platform", folder / "exports"
    platform.mkdir()
    backups.mkdir()
    started = time.monotonic()

    say("1. A real disk: MBR, ext4, 128 MiB of files; and a VMDK of it, as a hypervisor keeps it")
    raw = folder / "sample.img"
    sample_disk.build(raw, 384 * MIB, 128 * MIB)
    hyperctl("image", "convert", "-O", "vmdk", str(raw), str(platform / "web01.vmdk"))
    raw_sha = sample_disk.sha256(raw)

    say("2. A daemon, and what is installed in it")
    with daemon(state) as process:
        os.environ["HYPERSDK_STATE_DIR"] = str(state)
        hyperctl("system", "info")
        hyperctl("plugin", "list")

        say("3. The folder is a platform; another one is the storage")
        hyperctl("connection", "create", "lab", "--component", "provider/directory", "--config", f"path={platform}")
        hyperctl("connection", "create", "exports", "--component", "storage/local", "--config", f"path={backups}")
        hyperctl("machine", "list", "lab")
        machine = hyperctl("machine", "list", "lab", "-o", "name", quiet=True).strip()

        say("4. Export it to QCOW2, through a job in a process of its own (held to 48 MiB/s, so that you can watch it)")
        job = export(machine)
        hyperctl("job", "list")
        hyperctl("event", "list", "--filter", f'subject = "{job["name"]}"')

        say("5. Is it right? Compared with the original, and converted on")
        manifest = json.loads((backups / job["result"]["manifest"]).read_text())
        (disk,) = manifest["files"]
        exported = backups / disk["key"]
        hyperctl("image", "check", str(exported))
        hyperctl("image", "compare", str(raw), str(exported))
        back = folder / "back.raw"
        hyperctl("convert", str(exported), str(back), "-O", "raw")
        print(f"e2fsck: {sample_disk.check_file_system(back)}")

        say("6. Report")
        back_sha, file_sha = sample_disk.sha256(back), sample_disk.sha256(exported)
        rows = [
            ("original, virtual content", raw_sha),
            ("manifest, virtual content", disk["content"]["sha256"]),
            ("converted back to raw", back_sha),
            ("manifest, the file", disk["sha256"]),
            ("the file", file_sha),
        ]
        for label, digest in rows:
            print(f"  {label:28} sha256 {digest}")
        if len({raw_sha, disk["content"]["sha256"], back_sha}) != 1 or file_sha != disk["sha256"]:
            raise SystemExit("the checksums differ: this must not happen")
        for name, size, allocated in [("sample.img", raw.stat().st_size, raw.stat().st_blocks * 512), *tree(backups)]:
            print(f"  {name:52} {size / MIB:8.1f} MiB, {allocated / MIB:7.1f} MiB on disk")
        for pin in job["pins"]:
            print(f"  {', '.join(pin['components']):28} {pin['distribution']} {pin['version']}  {pin['digest'][:12]}")
        progress = job["progress"]
        read, written = int(progress["bytes_read"]) / MIB, int(progress["bytes_written"]) / MIB
        print(f"  read {read:.1f} MiB, wrote {written:.1f} MiB")
        print(f"  whole demo {time.monotonic() - started:.1f} s")
    if process.returncode != 0:
        raise SystemExit(f"hypersdkd ended with status {process.returncode}")
    left = left_processes(folder)
    if left:
        raise SystemExit("processes were left behind:\n" + "\n".join(left))
    say("The daemon has stopped and left no process. All checksums agree.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="work in this (new) folder and leave it there")
    args = parser.parse_args()
    if args.keep is not None:
        args.keep.mkdir(parents=True)
        run(args.keep.resolve())
        return 0
    with tempfile.TemporaryDirectory(prefix="hypersdk-demo-") as name:
        run(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
