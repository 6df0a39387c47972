"""provider-directory against the suites that every provider and every manifest must pass."""

import os
from typing import ClassVar

import pytest
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.provider_contract import ProviderContract
from hypersdk_provider_directory import DirectoryProvider

CONTENT = b"boot" + bytes(300_000) + b"end of the disk!"


class TestDirectoryProviderContract(ProviderContract):
    concurrency = "parallel"

    @pytest.fixture
    def provider(self, tmp_path):
        root = tmp_path / "platform"
        root.mkdir()
        (root / "web01.raw").write_bytes(CONTENT)
        (root / "Web 01.vmdk").write_bytes(b"KDMV")
        (root / "broken.ovf").write_text("<no xml")
        (root / "new\nline\u202e.img").write_bytes(b"x" * 512)
        with open(os.fsencode(root) + b"/bytes\xff\xfe.qcow2", "wb"):
            pass
        (root / ("x" * 250 + ".vhd")).touch()
        provider = DirectoryProvider()
        provider.configure({"path": str(root)}, {})
        return provider

    @pytest.fixture
    def exportable(self):
        return "web01-raw", "disk-0", CONTENT

    def test_what_is_listed_can_be_got_and_is_the_same(self, provider):
        """A broken package is listed, with its error, and raises it when it is got; all others as in the
        suite."""
        for listed in self.all_machines(provider, 1000):
            if "error" not in listed.details:
                assert provider.machine(listed.id) == listed


class TestDirectoryProviderManifest(ManifestContract):
    distribution_name = "hypersdk-provider-directory"
    package = "hypersdk_provider_directory"
    good: ClassVar = {"provider/directory": [{"path": "/srv/images"}]}
    bad: ClassVar = {
        "provider/directory": [{}, {"path": "images"}, {"path": "/a\0"}, {"path": "/a", "recursive": True}]
    }
