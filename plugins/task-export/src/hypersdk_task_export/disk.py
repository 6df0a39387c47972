"""DiskExport: one disk of the machine into one object, from whatever point an earlier attempt reached.

Its life: made with the disk's open source, `run` once. Where the storage offers a staging file, the image
is written right there; otherwise it is made in the job's scratch directory, because formats write at random
places, and streamed when it is complete and verified. Either way nothing is committed before the image was
read back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.pipeline import CopyProgress
from hypersdk.data.transfer import ImageFacts, ImageTransfer, Stage
from hypersdk.errors import DataLoss, FailedPrecondition, HyperError, NotFound
from hypersdk.plugin import ImageFormat, MachineDisk, ObjectInfo, TaskContext

from hypersdk_task_export.progress import ExportProgress
from hypersdk_task_export.spec import ExportSpec
from hypersdk_task_export.state import ExportState
from hypersdk_task_export.upload import Upload, Uploads

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource


@dataclass(frozen=True, slots=True)
class Job:
    """What the disks of one export share."""

    context: TaskContext
    spec: ExportSpec
    image_format: ImageFormat
    options: Mapping[str, str]
    uploads: Uploads
    state: ExportState
    progress: ExportProgress


@dataclass(frozen=True, slots=True)
class ExportedDisk:
    """`reused`: an earlier attempt had committed it. `member`: its name in the package that `key` is; empty when `key`
    is the image itself."""

    disk: MachineDisk
    key: str
    facts: ImageFacts
    etag: str
    source: Mapping[str, Any]
    seconds: Mapping[str, float]
    reused: bool = False
    member: str = ""


def staged_path(job: Job, disk_id: str) -> Path:
    """Where the image of a disk is made when the storage has no place for it."""
    return job.context.scratch_dir / f"{disk_id}.image"


class DiskExport:
    """Not thread-safe."""

    def __init__(self, job: Job, disk: MachineDisk, source: BlockSource) -> None:
        self._job = job
        self._disk = disk
        self._source = source
        self._key = job.spec.disk_key(disk.id, job.image_format.name)
        self._version = disk.details.get("content_version", "")
        self._staged = staged_path(job, disk.id)
        self._seconds: dict[str, float] = {}

    def run(self) -> ExportedDisk:
        """Raises DataLoss (VERIFY_MISMATCH, UPLOAD_INCOMPLETE) and what source, format and storage raise."""
        saved = self._trusted()
        if saved.get("stage") in {"publish", "committed"}:
            there = self._published(saved)
            if there is not None:
                self._save("committed", facts=saved["facts"], etag=there.etag)
                return self._exported(ImageFacts.from_json(saved["facts"]), there, reused=True)
        upload = self._upload(saved)
        if upload is not None and upload.writer.staging_path is not None:
            facts, info = self._in_place(upload, saved)
        else:
            if upload is not None:  # this storage takes streams only: hold no upload open while the disk is copied
                self._job.uploads.drop(upload)
            facts, info = self._by_stream(saved)
        self._save("committed", facts=facts.to_json(), etag=info.etag)
        return self._exported(facts, info)

    def stage(self) -> ExportedDisk:
        """The verified image in the scratch directory alone, for a package that is sent when all are there."""
        saved = self._trusted()
        facts = self._in_scratch(saved if self._staged.exists() else {})
        self._job.progress.disk_done(self._source.size)
        return ExportedDisk(
            self._disk, self._job.spec.package_key, facts, "", self._source.info(), dict(self._seconds),
            member=self._key.rpartition("/")[2],
        )  # fmt: skip

    def _in_scratch(self, saved: Mapping[str, Any]) -> ImageFacts:
        with self._forgetting():
            self._staged.touch(mode=0o600)
            return self._make(self._staged, saved if saved.get("scratch") else {}, scratch=True)

    def _trusted(self) -> Mapping[str, Any]:
        """What an earlier attempt saved, if it was of this very content."""
        saved = self._job.state.disk(self._disk.id)
        same = saved.get("version") == self._version and saved.get("size") == self._source.size
        if saved and not (same and saved.get("key") == self._key):
            self._job.context.log("disk_restarted", "warning", disk=self._disk.id, cause="the disk has changed")
            self._job.uploads.drop_token(str(saved.get("upload", "")))
            self._job.state.forget(self._disk.id)
            return {}
        return saved

    def _published(self, saved: Mapping[str, Any]) -> ObjectInfo | None:
        """The object that an earlier attempt committed, whether or not it lived to say so."""
        try:
            info = self._job.context.storage(self._job.spec.target).stat(self._key)
        except NotFound:
            return None
        if saved["stage"] == "committed":
            return info if info.etag == saved.get("etag") else None
        expected = ImageFacts.from_json(saved["facts"])
        if info.size_bytes != expected.file_bytes or self._upload_is_there(saved):
            return None
        return info if self._object_sha256(info) == expected.file_sha256 else None

    def _upload_is_there(self, saved: Mapping[str, Any]) -> bool:
        token = str(saved.get("upload") or "")
        return bool(token) and self._job.uploads.go_on(self._key, token) is not None

    def _upload(self, saved: Mapping[str, Any]) -> Upload | None:
        """The upload to write into. None: the image is being made in the scratch directory already."""
        if saved.get("scratch"):
            return None
        token = str(saved.get("upload") or "")
        upload = self._job.uploads.go_on(self._key, token) if token else None
        if upload is None:
            self._job.uploads.drop_token(token)
            self._job.state.forget(self._disk.id)
            upload = self._job.uploads.begin(self._key)
        return upload

    def _in_place(self, upload: Upload, saved: Mapping[str, Any]) -> tuple[ImageFacts, ObjectInfo]:
        path = upload.writer.staging_path
        assert path is not None
        known = saved if self._job.state.disk(self._disk.id) else {}
        with self._job.uploads.guarded(upload), self._forgetting():
            facts = self._make(path, known, upload=upload.writer.token)
            start = time.monotonic()
            info = self._job.uploads.commit(upload)
        self._seconds["publish"] = time.monotonic() - start
        return facts, info

    def _by_stream(self, saved: Mapping[str, Any]) -> tuple[ImageFacts, ObjectInfo]:
        facts = self._in_scratch(saved)
        start = time.monotonic()
        upload = self._job.uploads.begin(self._key)
        try:
            self._job.progress.doing("uploading", self._disk.id, 0, facts.file_bytes)
            self._job.uploads.stream(upload, self._staged)
            info = self._job.uploads.commit(upload)
        except Exception:
            self._job.uploads.drop(upload)  # the staged image stays; a stream is cheap to begin again
            raise
        if info.size_bytes != facts.file_bytes:
            raise DataLoss(
                f"object {self._key!r} has {info.size_bytes} bytes, but {facts.file_bytes} were sent; export again",
                reason="UPLOAD_INCOMPLETE",
            )
        self._staged.unlink(missing_ok=True)
        self._seconds["publish"] = time.monotonic() - start
        return facts, info

    def _make(self, path: Path, saved: Mapping[str, Any], **where: Any) -> ImageFacts:
        """The finished, verified image at `path`, which exists."""
        if saved.get("stage") == "publish":
            return ImageFacts.from_json(saved["facts"])
        job = self._job
        with ImageFile.create(path, resume=True) as file:
            transfer = ImageTransfer(
                self._source, file, job.image_format,
                context=job.context,
                digest_path=job.context.scratch_dir / f"{self._disk.id}.digest",
                save=lambda state: self._save("transfer", transfer=state, **where),
                report=self._report,
                final_name=self._key.rpartition("/")[2],
                options=job.options,
                saved=saved.get("transfer"),
                threads=job.spec.threads,
            )  # fmt: skip
            facts = transfer.run()
        self._must_be_unchanged()
        self._seconds.update(transfer.seconds)
        self._save("publish", facts=facts.to_json(), **where)
        return facts

    def _must_be_unchanged(self) -> None:
        """A platform that cannot freeze a disk can at least tell that somebody wrote to it."""
        machine = self._job.context.provider(self._job.spec.connection).machine(self._job.spec.machine_id)
        now = next((d.details.get("content_version", "") for d in machine.disks if d.id == self._disk.id), None)
        if now != self._version:
            raise FailedPrecondition(
                f"disk {self._disk.id!r} changed while it was copied, so the copy would be torn; shut the "
                "machine down or take a copy of its disks, then export again",
                reason="SOURCE_CHANGED", metadata={"disk": self._disk.id},
            )  # fmt: skip

    def _forgetting(self) -> _Forgetting:
        return _Forgetting(self._job.state, self._disk.id)

    def _report(self, stage: Stage, progress: CopyProgress) -> None:
        if stage == "copy":
            self._job.progress.copying(self._disk.id, progress)
        else:
            self._job.progress.doing("verifying", self._disk.id, progress.offset, progress.bytes_total)

    def _save(self, stage: str, **fields: Any) -> None:
        identity = {"version": self._version, "size": self._source.size, "key": self._key}
        self._job.state.save(self._disk.id, stage=stage, **identity, **fields)

    def _object_sha256(self, info: ObjectInfo) -> str:
        import hashlib

        storage, sha, step = self._job.context.storage(self._job.spec.target), hashlib.sha256(), 4 << 20
        for offset in range(0, info.size_bytes, step):
            self._job.context.check()
            sha.update(storage.read_range(self._key, offset, min(step, info.size_bytes - offset)))
        return sha.hexdigest()

    def _exported(self, facts: ImageFacts, info: ObjectInfo, *, reused: bool = False) -> ExportedDisk:
        self._job.progress.disk_done(self._source.size)
        return ExportedDisk(self._disk, self._key, facts, info.etag, self._source.info(), dict(self._seconds), reused)


class _Forgetting:
    """Around the making of an image: after an error that no other attempt can get over, a retry begins
    anew."""

    def __init__(self, state: ExportState, disk_id: str) -> None:
        self._state = state
        self._disk_id = disk_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _trace: object) -> None:
        if isinstance(exc, Exception) and not (isinstance(exc, HyperError) and exc.retryable):
            self._state.forget(self._disk_id)
