"""PackageExport: all disks of the machine as one OVA, streamed from the finished images in the scratch directory.

Its life: made when every image is verified, `run` once. Sizes and digests are known by then, so descriptor and manifest
come first and nothing is written twice: any storage will do. What is sent is hashed once more on its way.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypersdk.data.ovf import envelope, manifest
from hypersdk.data.ovf.names import file_stem
from hypersdk.data.ovf.tar import TarStream, stream_size
from hypersdk.data.sink import Buffer
from hypersdk.errors import DataLoss
from hypersdk.plugin import Machine

from hypersdk_task_export.disk import ExportedDisk, Job, staged_path
from hypersdk_task_export.upload import Upload

OPTIONS = {"subformat": "streamOptimized", "adapter_type": "lsilogic"}
"""Of the disks in a package, which importers take nothing else for."""

_PIECE = 4 << 20


@dataclass(frozen=True, slots=True)
class Package:
    """The committed object. `sha256`: of all of it."""

    key: str
    size_bytes: int
    sha256: str


class PackageExport:
    """Not thread-safe."""

    def __init__(self, job: Job, machine: Machine) -> None:
        self._job = job
        self._machine = machine
        self._stem = file_stem(machine.display_name, machine.id)
        self._sha = hashlib.sha256()

    def run(self, disks: Sequence[ExportedDisk]) -> tuple[Package, list[ExportedDisk]]:
        """The package, and the disks with its etag. Raises DataLoss (VERIFY_MISMATCH, UPLOAD_INCOMPLETE) and what the
        storage raises; the images stay for another attempt."""
        start = time.monotonic()
        descriptor = self._descriptor(disks)
        digests = [manifest.Digest(f"{self._stem}.ovf", "SHA256", hashlib.sha256(descriptor).hexdigest())]
        digests += [manifest.Digest(disk.member, "SHA256", disk.facts.file_sha256) for disk in disks]
        texts = {f"{self._stem}.ovf": descriptor, f"{self._stem}.mf": manifest.render(digests)}
        size = stream_size([*(len(text) for text in texts.values()), *(disk.facts.file_bytes for disk in disks)])
        upload = self._job.uploads.begin(self._job.spec.package_key)
        try:
            stream = TarStream(lambda data: self._write(upload, data), mtime=int(time.time()))
            for name, text in texts.items():
                stream.begin(name, len(text))
                stream.send(text)
            for disk in disks:
                self._send(stream, disk)
            stream.end()
            info = self._job.uploads.commit(upload)
        except Exception:
            self._job.uploads.drop(upload)  # the images stay; a stream is cheap to begin again
            raise
        if info.size_bytes != size:
            raise DataLoss(
                f"object {info.key!r} has {info.size_bytes} bytes, but {size} were sent; export again",
                reason="UPLOAD_INCOMPLETE",
            )
        spent = (time.monotonic() - start) / len(disks)
        done = [replace(disk, etag=info.etag, seconds={**disk.seconds, "publish": spent}) for disk in disks]
        return Package(info.key, size, self._sha.hexdigest()), done

    def _descriptor(self, disks: Sequence[ExportedDisk]) -> bytes:
        machine = self._machine
        packed = [
            envelope.PackedDisk(d.disk.id, d.member, d.facts.file_bytes, d.facts.virtual_size, d.disk.bus)
            for d in disks
        ]
        return envelope.render(
            envelope.PackedMachine(
                name=machine.display_name or machine.id,
                disks=packed,
                cpu_count=max(1, machine.cpu_count),
                memory_bytes=machine.memory_bytes if machine.memory_bytes > 0 else 1 << 30,
                firmware=machine.firmware,
                guest_os=machine.guest_os,
                nics=machine.nics,
            )
        )

    def _send(self, stream: TarStream, disk: ExportedDisk) -> None:
        """Raises DataLoss (VERIFY_MISMATCH) when the image is no longer what was verified."""
        total = disk.facts.file_bytes
        stream.begin(disk.member, total)
        sha = hashlib.sha256()
        buffer = memoryview(bytearray(_PIECE))
        sent = 0
        with staged_path(self._job, disk.disk.id).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                self._job.context.check()
                sha.update(buffer[:count])
                stream.send(buffer[:count])
                sent += count
                self._job.context.throttle(count)
                self._job.progress.doing("uploading", disk.disk.id, sent, total)
        if sha.hexdigest() != disk.facts.file_sha256:
            raise DataLoss(
                f"the image of disk {disk.disk.id!r} changed after it was verified: the medium of the scratch "
                "directory is at fault; nothing was published, so export again",
                reason="VERIFY_MISMATCH",
            )

    def _write(self, upload: Upload, data: Buffer) -> None:
        self._sha.update(data)
        upload.writer.write(data)
