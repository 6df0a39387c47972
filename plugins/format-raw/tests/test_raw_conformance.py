"""format-raw against the suites that every image format and every manifest must pass."""

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk_format_raw import RawFormat


class TestRawContract(ImageFormatContract):
    claims_all = True

    @pytest.fixture
    def image_format(self):
        return RawFormat()


class TestRawManifest(ManifestContract):
    distribution_name = "hypersdk-format-raw"
    package = "hypersdk_format_raw"
