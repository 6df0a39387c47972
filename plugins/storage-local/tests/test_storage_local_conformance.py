"""storage-local against the suites that every storage and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.storage_contract import StorageContract
from hypersdk_storage_local import LocalStorage


class TestLocalStorageContract(StorageContract):
    concurrency = "parallel"

    @pytest.fixture
    def storage(self, tmp_path):
        storage = LocalStorage()
        storage.configure({"path": str(tmp_path / "objects"), "create": True}, {})
        return storage


class TestLocalStorageManifest(ManifestContract):
    distribution_name = "hypersdk-storage-local"
    package = "hypersdk_storage_local"
    good: ClassVar = {"storage/local": [{"path": "/srv/exports"}, {"path": "/srv", "create": True}]}
    bad: ClassVar = {"storage/local": [{}, {"path": "relative"}, {"path": "/a\0b"}, {"path": "/x", "mkdir": True}]}
