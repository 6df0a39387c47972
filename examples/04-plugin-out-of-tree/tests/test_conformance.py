"""hypersdk-task-checksums against the suites that every task and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing import LocalTaskContext, MemoryStorage
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.task_contract import TaskContract
from hypersdk_task_checksums import ChecksumsTask


def filled_storage():
    storage = MemoryStorage()
    for number in range(7):
        writer = storage.open_writer(f"exports/{number}")
        writer.write(bytes([number]) * number)
        writer.commit()
    return storage


class TestChecksums(TaskContract):
    @pytest.fixture
    def task(self):
        return ChecksumsTask()

    @pytest.fixture
    def new_context(self, tmp_path):
        spec = {"storage": "connections/lab", "prefix": "exports/"}
        return lambda: LocalTaskContext(spec, tmp_path, storages={"connections/lab": filled_storage()})


class TestManifest(ManifestContract):
    distribution_name = "hypersdk-task-checksums"
    package = "hypersdk_task_checksums"
    good: ClassVar = {
        "task/checksums": [
            {"storage": "connections/lab"},
            {"storage": "connections/lab", "prefix": "a/b/", "verify": True},
        ]
    }
    bad: ClassVar = {
        "task/checksums": [
            {}, {"storage": "lab"}, {"storage": "connections/lab", "prefix": "a"},
            {"storage": "connections/lab", "x": 1},
        ]
    }  # fmt: skip
