"""Descriptor text: what is understood, what is refused, how files are recognised."""

from __future__ import annotations

import pytest
from hypersdk.errors import HyperError, MalformedImage, Unsupported
from hypersdk_format_vmdk import VmdkFormat
from hypersdk_format_vmdk.descriptor import ExtentLine, parse_descriptor
from hypothesis import given, settings
from hypothesis import strategies as st

HEAD = b"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"


def parse(text: bytes):
    return parse_descriptor(text, "a.vmdk")


def test_extent_lines_of_every_shape_are_understood():
    found = parse(HEAD + b'RW 63 FLAT "a b.vmdk" 128\r\n RDONLY  4 SPARSE\t"s.vmdk"\nRW 9 ZERO\n'
                  b'RW 5 FLAT "d" 0 partitionUUID dev 1\n')  # fmt: skip
    assert found.extents == (
        ExtentLine("RW", 63, "FLAT", "a b.vmdk", 128),
        ExtentLine("RDONLY", 4, "SPARSE", "s.vmdk"),
        ExtentLine("RW", 9, "ZERO"),
        ExtentLine("RW", 5, "FLAT", "d"),
    )


@pytest.mark.parametrize(
    "line",
    [b"RW", b"RW 1", b"RW x FLAT \"a\" 0", b"RW 0 FLAT \"a\" 0", b"RW -5 FLAT \"a\" 0", b"RW 1 FLAT a 0", b"RW 1 FLAT",
     b"RW 1 FLAT \"a\" -1", b"RW 1 FLAT \"a", b"RW 99999999999999999 ZERO", b"RW 9999999999999999999999 ZERO"],
)  # fmt: skip
def test_extent_lines_that_cannot_be_read_are_errors_not_skipped(line):
    with pytest.raises(MalformedImage):
        parse(HEAD + line + b" \n")


def test_a_key_with_two_values_is_ambiguous():
    with pytest.raises(MalformedImage, match="second value"):
        parse(HEAD + b'parentFileNameHint="a"\nparentFileNameHint="b"\n')


def test_encrypted_disks_and_unknown_versions_are_refused():
    with pytest.raises(Unsupported) as caught:
        parse(HEAD + b'encryptionKeys="vmware:key"\n')
    assert caught.value.reason == "IMAGE_ENCRYPTED"
    with pytest.raises(Unsupported):
        parse(b"# Disk DescriptorFile\nversion=17\n")


def test_text_behind_the_first_nul_is_not_read():
    assert parse(HEAD + b"RW 1 ZERO\n\0RW 5 ZERO\n").extents == (ExtentLine("RW", 1, "ZERO"),)


@pytest.mark.parametrize(
    ("head", "score"),
    [(b"KDMV" + bytes(508), 100), (b"COWD" + bytes(508), 100), (b"# Disk DescriptorFile\n", 100),
     (b"# disk descriptorfile\r\n", 100), (b"# hello\n\nversion=1\n", 100), (b"# hello\nworld\n", 0), (b"", 0),
     (bytes(512), 0), (b"QFI\xfb", 0), (b"version=1\n", 100), (b"\xbe\xba\xfe\xca\0\0\0\0", 100)],
)  # fmt: skip
def test_files_are_recognised_by_their_heads(head, score):
    assert VmdkFormat().probe(head, b"", len(head)) == score


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([
    b"RW ", b"RDONLY ", b"NOACCESS ", b"1 ", b"18446744073709551616 ", b"FLAT ", b"ZERO", b'"', b"a.vmdk", b" 0", b"\n",
    b"\r\n", b"\0", b"CID=", b"ffffffff", b"version=", b"1", b"=", b"encoding=", b"GBK", b"\xff\xfe", b"ddb.", b"#",
    b"parentCID=", b"\xc3\xa9", b"createType=", b"\t",
]), max_size=60))  # fmt: skip
def test_any_mixture_of_tokens_parses_or_is_refused(tokens):
    try:
        parse(b"".join(tokens))
    except HyperError:
        pass
