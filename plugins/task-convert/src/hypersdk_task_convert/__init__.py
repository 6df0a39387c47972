"""task-convert: one disk image on the kernel's machine into another format, as a job."""

from hypersdk_task_convert.task import ConvertTask

__all__ = ["ConvertTask"]
