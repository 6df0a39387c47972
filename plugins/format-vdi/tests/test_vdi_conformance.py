"""format-vdi against the suites that every image format and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk_format_vdi import VdiFormat


class TestVdiContract(ImageFormatContract):
    option_sets: ClassVar = [{}, {"static": "on"}]

    @pytest.fixture
    def image_format(self):
        return VdiFormat()


class TestVdiManifest(ManifestContract):
    distribution_name = "hypersdk-format-vdi"
    package = "hypersdk_format_vdi"
