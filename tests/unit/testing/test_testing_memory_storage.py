"""The storage for tests keeps the contract that it stands in for."""

import shutil

import pytest
from hypersdk.errors import ResourceExhausted
from hypersdk.testing import MemoryStorage
from hypersdk.testing.storage_contract import StorageContract


class TestMemoryStorageContract(StorageContract):
    @pytest.fixture
    def storage(self):
        return MemoryStorage()


class TestStagingMemoryStorageContract(StorageContract):
    @pytest.fixture
    def storage(self):
        storage = MemoryStorage(staging=True)
        yield storage
        shutil.rmtree(storage.staging_dir)


def test_it_fails_when_told_to():
    storage = MemoryStorage()
    storage.failure, storage.fail_after_bytes = ResourceExhausted("full", reason="DISK_FULL"), 4
    writer = storage.open_writer("k")
    writer.write(b"1234")
    with pytest.raises(ResourceExhausted):
        writer.write(b"5")
