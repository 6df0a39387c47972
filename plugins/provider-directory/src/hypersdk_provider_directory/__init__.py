"""provider-directory: a directory of disk images and OVF packages as a HyperSDK platform."""

from hypersdk_provider_directory.provider import DirectoryProvider

__all__ = ["DirectoryProvider"]
