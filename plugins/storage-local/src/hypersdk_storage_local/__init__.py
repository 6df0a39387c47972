"""storage-local: a directory of this machine (or of a mounted share) as a HyperSDK storage."""

from hypersdk_storage_local.storage import LocalStorage

__all__ = ["LocalStorage"]
