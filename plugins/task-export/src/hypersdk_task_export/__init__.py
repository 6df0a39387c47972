"""task-export: a machine's disks as verified image files on a storage, with a manifest."""

from hypersdk_task_export.task import ExportTask

__all__ = ["ExportTask"]
