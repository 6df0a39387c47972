"""Is what task-export's manifest says true?"""

from typing import ClassVar

from hypersdk.testing.manifest_contract import ManifestContract

GOOD = {"machine": "connections/lab/machines/web01", "target": "connections/out"}


class TestExportManifest(ManifestContract):
    distribution_name = "hypersdk-task-export"
    package = "hypersdk_task_export"
    good: ClassVar = {
        "task/export": [
            GOOD,
            {**GOOD, "prefix": "a/b c/ü", "format": "vmdk", "options": {"subformat": "streamOptimized"}},
            {**GOOD, "compress": True, "disks": ["disk-0"], "max_threads": 2, "prefix": "..a/b.."},
        ]
    }
    bad: ClassVar = {
        "task/export": [
            {}, {**GOOD, "machine": "machines/web01"}, {**GOOD, "machine": "connections/lab/machines/web01/disks/0"},
            {**GOOD, "machine": "connections/lab/machines/Web"}, {**GOOD, "target": "connections/-"},
            {**GOOD, "prefix": "/abs"}, {**GOOD, "prefix": "a/../b"}, {**GOOD, "prefix": "a//b"},
            {**GOOD, "prefix": ".."},
            {**GOOD, "prefix": "a\nb"}, {**GOOD, "prefix": "a/"}, {**GOOD, "disks": []}, {**GOOD, "disks": ["a", "a"]},
            {**GOOD, "options": ["x"]}, {**GOOD, "surprise": 1}, {**GOOD, "format": ""},
        ]
    }  # fmt: skip
