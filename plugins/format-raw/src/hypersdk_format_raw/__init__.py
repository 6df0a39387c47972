"""HyperSDK format plugin: raw images, a disk's bytes in a plain file as they are, with holes for zeros."""

from hypersdk_format_raw.format import RawFormat

__all__ = ["RawFormat"]
