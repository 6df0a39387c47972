"""format-vhdx against the suites that every image format and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk_format_vhdx import VhdxFormat


class TestVhdxContract(ImageFormatContract):
    option_sets: ClassVar = [
        {}, {"block_size": "1M"}, {"subformat": "fixed"}, {"block_state_zero": "off", "log_size": "2M"},
    ]  # fmt: skip

    @pytest.fixture
    def image_format(self):
        return VhdxFormat()


class TestVhdxManifest(ManifestContract):
    distribution_name = "hypersdk-format-vhdx"
    package = "hypersdk_format_vhdx"
