"""The manifest, by the suite that every plugin's runs."""

from hypersdk.testing.manifest_contract import ManifestContract


class TestManifest(ManifestContract):
    distribution_name = "hypersdk-format-vmdk"
    package = "hypersdk_format_vmdk"
