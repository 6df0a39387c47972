"""Is what task-convert's manifest says true?"""

from typing import ClassVar

from hypersdk.testing.manifest_contract import ManifestContract

GOOD = {"source_path": "/a/b.vmdk", "target_path": "/a/c.qcow2", "format": "qcow2"}


class TestConvertManifest(ManifestContract):
    distribution_name = "hypersdk-task-convert"
    package = "hypersdk_task_convert"
    good: ClassVar = {
        "task/convert": [GOOD, {**GOOD, "options": {"cluster_size": "65536"}, "compress": True, "overwrite": True}]
    }
    bad: ClassVar = {
        "task/convert": [
            {}, {**GOOD, "source_path": "relative"}, {**GOOD, "target_path": "/a/\0"}, {**GOOD, "target_path": "/dir/"},
            {**GOOD, "format": "../x"}, {**GOOD, "options": {"x": 1}}, {**GOOD, "options": {"A B": "1"}},
            {**GOOD, "surprise": 1}, {**GOOD, "max_threads": 65}, {**GOOD, "max_threads": True},
        ]
    }  # fmt: skip
