"""format-qcow2 against the suites that every image format and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk_format_qcow2 import Qcow2Format


class TestQcow2Contract(ImageFormatContract):
    option_sets: ClassVar = [
        {}, {"cluster_size": "4096"}, {"compat": "0.10"}, {"compress": "on"},
        {"compress": "on", "compression_type": "zstd"},
    ]  # fmt: skip

    @pytest.fixture
    def image_format(self):
        return Qcow2Format()


class TestQcow2Manifest(ManifestContract):
    distribution_name = "hypersdk-format-qcow2"
    package = "hypersdk_format_qcow2"
