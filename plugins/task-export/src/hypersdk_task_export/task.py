"""ExportTask: all disks of a machine, opened together, copied one after the other, then the manifest.

The manifest is written last: where it is, the export is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from hypersdk.data.transfer import compressing
from hypersdk.errors import FailedPrecondition, NotFound
from hypersdk.plugin import Machine, MachineDisk, Task, TaskContext

from hypersdk_task_export import document
from hypersdk_task_export.disk import DiskExport, Job, staged_path
from hypersdk_task_export.package import OPTIONS as PACKED_OPTIONS
from hypersdk_task_export.package import Package, PackageExport
from hypersdk_task_export.progress import ExportProgress
from hypersdk_task_export.spec import ExportSpec
from hypersdk_task_export.state import ExportState
from hypersdk_task_export.upload import Uploads


class ExportTask(Task):
    """Stateless."""

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        spec = ExportSpec.parse(context.spec, context.job)
        image_format = context.image_format(spec.image_format)
        options = compressing(image_format, spec.options) if spec.compress else dict(spec.options)
        if spec.package:
            options = PACKED_OPTIONS
        provider = context.provider(spec.connection)
        machine = provider.machine(spec.machine_id)
        disks = _chosen(machine, spec)
        context.scratch_dir.mkdir(parents=True, exist_ok=True)
        state = ExportState(context)
        state.begin(document.now())
        uploads = Uploads(context, spec.target)
        uploads.drop_earlier(but={str(state.disk(disk.id).get("upload", "")) for disk in disks})
        with ExitStack() as stack:
            # All are opened before the first is copied, so that their points in time lie close together.
            sources = [stack.enter_context(provider.open_source(spec.machine_id, disk.id, context)) for disk in disks]
            progress = ExportProgress(context, sum(source.size for source in sources))
            job = Job(context, spec, image_format, options, uploads, state, progress)
            exported = []
            for disk, source in zip(disks, sources, strict=True):
                context.log("disk_export_started", disk=disk.id, bytes=source.size)
                export = DiskExport(job, disk, source)
                exported.append(export.stage() if spec.package else export.run())
                context.log("disk_exported", disk=disk.id, key=exported[-1].key, sha256=exported[-1].facts.file_sha256)
        package: Package | None = None
        if spec.package:
            package, exported = PackageExport(job, machine).run(exported)
            context.log("package_exported", key=package.key, bytes=package.size_bytes, sha256=package.sha256)
        context.check()
        plugins = {
            context.component(spec.connection): provider,
            context.component(spec.target): context.storage(spec.target),
            f"format/{image_format.name}": image_format,
            "task/export": self,
        }
        text = document.build(
            machine, f"{spec.connection}/machines/{machine.id}", context.job, image_format.name, exported, plugins,
            state.started, package,
        )  # fmt: skip
        upload = uploads.begin(spec.manifest_key)
        with uploads.guarded(upload):
            upload.writer.write(text)
            uploads.commit(upload)
        if spec.package:  # only now: an attempt that dies before has its images still
            for disk in disks:
                staged_path(job, disk.id).unlink(missing_ok=True)
        return document.result(spec.manifest_key, exported, progress.bytes_read, progress.bytes_written)

    def plan(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Where the objects would go; sizes need the platform, which a plan does not ask."""
        wanted = ExportSpec.parse(spec, "jobs/{job}")
        disks = list(wanted.disks) or ["{disk}"]
        images = [wanted.disk_key(disk, wanted.image_format) for disk in disks]
        return {
            "machine": f"{wanted.connection}/machines/{wanted.machine_id}",
            "target": wanted.target,
            "objects": [*([wanted.package_key] if wanted.package else images), wanted.manifest_key],
            "verify": "every image is read back before it is committed",
        }


def _chosen(machine: Machine, spec: ExportSpec) -> list[MachineDisk]:
    if not machine.disks:
        raise FailedPrecondition(
            f"machine {machine.display_name!r} has no disks, so there is nothing to export",
            reason="MACHINE_HAS_NO_DISKS",
        )
    by_id = {disk.id: disk for disk in machine.disks}
    missing = [disk_id for disk_id in spec.disks if disk_id not in by_id]
    if missing:
        raise NotFound(
            f"machine {machine.display_name!r} has no disk {', '.join(missing)}; it has {', '.join(by_id)}",
            reason="DISK_NOT_FOUND",
        )
    return [by_id[disk_id] for disk_id in spec.disks] or list(machine.disks)
