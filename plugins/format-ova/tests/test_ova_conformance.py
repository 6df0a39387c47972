"""format-ova against the suites that every image format and every manifest must pass."""

from typing import ClassVar

import pytest
from hypersdk.testing.format_contract import ImageFormatContract
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk_format_ova import OvaFormat


class TestOvaContract(ImageFormatContract):
    option_sets: ClassVar = [{}, {"name": "Web server", "cpus": "4", "memory": "2GiB", "firmware": "efi", "bus": "ide"}]

    @pytest.fixture
    def image_format(self):
        return OvaFormat()


class TestOvaManifest(ManifestContract):
    distribution_name = "hypersdk-format-ova"
    package = "hypersdk_format_ova"
