"""HyperSDK task plugin: SHA256SUMS of what a storage holds."""

from hypersdk_task_checksums.task import ChecksumsTask

__all__ = ["ChecksumsTask"]
