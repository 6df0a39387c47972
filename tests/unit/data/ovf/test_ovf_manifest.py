"""Manifest files: the spellings of products, and everything else refused."""

import hashlib

import pytest
from hypersdk.data.ovf import manifest
from hypersdk.data.ovf.manifest import Digest
from hypersdk.errors import HyperError, MalformedImage
from hypothesis import given, settings
from hypothesis import strategies as st

SHA256 = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    "line",
    [f"SHA256(a b.ovf)= {SHA256}", f"SHA256 (a b.ovf) = {SHA256.upper()}", f"sha256(a b.ovf)={SHA256}\r"],
)
def test_the_spellings_of_vmware_virtualbox_and_openssl_are_read(line):
    assert manifest.parse(line.encode() + b"\n\n", "m") == (Digest("a b.ovf", "SHA256", SHA256),)


@pytest.mark.parametrize("algorithm", manifest.ALGORITHMS)
def test_what_is_written_is_read(algorithm):
    value = hashlib.new(algorithm, b"x").hexdigest()
    digests = tuple(Digest(name, algorithm, value) for name in ("a", "b(1).vmdk"))
    assert manifest.parse(manifest.render(digests), "m") == digests


@pytest.mark.parametrize(
    "text",
    [
        "hello", f"MD5(a)= {SHA256}", f"SHA1(a)= {SHA256}", f"SHA256(a)= {SHA256[:-1]}", f"SHA256(../a)= {SHA256}",
        f"SHA256(/etc/passwd)= {SHA256}", f"SHA256()= {SHA256}", f"SHA256(a)= {SHA256}\nSHA256(a)= {SHA256}",
        f"SHA256(a)= {SHA256}\nSHA1(a)= {SHA256[:40]}", "\n" * 5000, "#" * (1 << 21),
    ],
)  # fmt: skip
def test_anything_else_is_malformed(text):
    with pytest.raises(MalformedImage) as caught:
        manifest.parse(text.encode(), "vm.mf")
    assert caught.value.reason == "OVF_MANIFEST_MALFORMED"


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_digests_or_a_typed_error(data):
    for text in (data, b"SHA256(a)= " + data):
        try:
            manifest.parse(text, "vm.mf")
        except HyperError as exc:
            assert exc.reason == "OVF_MANIFEST_MALFORMED"


def test_a_part_of_a_file_is_hashed_and_can_be_cancelled(image_file):
    data = bytes(range(256)) * 40_000
    file = image_file(data)
    assert manifest.hash_range(file, 100, 9_000_000) == hashlib.sha256(data[100:9_000_100]).hexdigest()

    def cancel():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manifest.hash_range(file, 0, 10, check=cancel)
