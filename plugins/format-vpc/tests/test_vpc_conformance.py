"""format-vpc against the suites that every image format and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk_format_vpc import VpcFormat


class TestVpcContract(ImageFormatContract):
    option_sets: ClassVar = [
        {}, {"subformat": "fixed"}, {"force_size": "on"}, {"subformat": "fixed", "force_size": "on"},
        {"block_size": "512K"},
    ]  # fmt: skip

    @pytest.fixture
    def image_format(self):
        return VpcFormat()


class TestVpcManifest(ManifestContract):
    distribution_name = "hypersdk-format-vpc"
    package = "hypersdk_format_vpc"
