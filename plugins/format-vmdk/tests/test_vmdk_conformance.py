"""format-vmdk against the suites that every image format and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk_format_vmdk import VmdkFormat


class TestVmdkContract(ImageFormatContract):
    option_sets: ClassVar = [
        {},
        {"subformat": "streamOptimized"},
        {"subformat": "monolithicFlat"},
        {"subformat": "twoGbMaxExtentSparse"},
        {"subformat": "twoGbMaxExtentFlat"},
    ]

    @pytest.fixture
    def image_format(self):
        return VmdkFormat()


class TestVmdkManifest(ManifestContract):
    distribution_name = "hypersdk-format-vmdk"
    package = "hypersdk_format_vmdk"
