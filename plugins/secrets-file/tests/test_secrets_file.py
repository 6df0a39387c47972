"""secrets/file against the suite of its kind, and what a directory of files adds."""

import os
from typing import ClassVar

import pytest
from hypersdk.errors import FailedPrecondition, HyperError, InvalidArgument, NotFound, PermissionDenied
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.secrets_contract import SecretSourceContract
from hypersdk_secrets_file import FileSecrets

VALUE = "correct horse battery staple"


def put(folder, name, value=VALUE, mode=0o600):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else value.encode())
    path.chmod(mode)
    return path


def over(folder, **config):
    source = FileSecrets()
    source.configure({"path": str(folder), **config}, {})
    return source


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    put(folder, "lab/vcenter", VALUE + "\n")
    put(tmp_path, "outside")
    return folder


class TestFileSecrets(SecretSourceContract):
    @pytest.fixture
    def source(self, folder):
        return over(folder)

    @pytest.fixture
    def known(self):
        return "lab/vcenter", VALUE

    @pytest.fixture
    def sealed(self, tmp_path):
        return over(tmp_path / "not-mounted")


class TestManifest(ManifestContract):
    distribution_name = "hypersdk-secrets-file"
    package = "hypersdk_secrets_file"
    good: ClassVar = {"secrets/file": [{"path": "/run/secrets"}, {"path": "/x", "ttl_s": 0}]}
    bad: ClassVar = {"secrets/file": [{}, {"path": "here"}, {"path": "/a\0b"}, {"path": "/x", "ttl_s": 301}]}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_file_that_others_may_use_is_refused(folder, mode):
    put(folder, "open", mode=mode)
    with pytest.raises(PermissionDenied) as refused:
        over(folder).resolve("open")
    assert refused.value.reason == "SECRET_FILE_OPEN_TO_OTHERS"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to somebody else")
def test_a_file_of_somebody_else_is_refused(folder):
    os.chown(put(folder, "theirs"), 12345, 12345)
    with pytest.raises(PermissionDenied):
        over(folder).resolve("theirs")


def test_a_directory_that_others_may_write_to_is_refused(folder):
    folder.chmod(0o777)
    with pytest.raises(PermissionDenied):
        over(folder).resolve("lab/vcenter")
    assert not over(folder).health().ok


@pytest.mark.parametrize("link", ["link", "lab/link", "linked/vcenter"])
def test_no_symbolic_link_is_followed(folder, link):
    if link == "linked/vcenter":
        (folder / "linked").symlink_to(folder / "lab")
    else:
        (folder / link).symlink_to(folder.parent / "outside")
    with pytest.raises((PermissionDenied, NotFound)):
        over(folder).resolve(link)


def test_only_the_last_newline_is_taken_off(folder):
    put(folder, "a", "two\nlines\n\n")
    put(folder, "b", "dos\r\n")
    put(folder, "c", "")
    assert [over(folder).resolve(name).value for name in "abc"] == ["two\nlines\n", "dos", ""]


def test_what_is_no_text_or_too_long_is_refused_without_being_repeated(folder):
    put(folder, "binary", b"hunter2\xff")
    put(folder, "long", "x" * 65_537)
    put(folder, "longest", "x" * 65_536)
    for name in ("binary", "long"):
        with pytest.raises(FailedPrecondition) as refused:
            over(folder).resolve(name)
        assert "hunter2" not in refused.value.message
    assert len(over(folder).resolve("longest").value) == 65_536


def test_what_is_no_file_is_not_found_and_hangs_nobody(folder):
    os.mkfifo(folder / "pipe", 0o600)
    for name in ("pipe", "lab"):
        with pytest.raises(NotFound):
            over(folder).resolve(name)


@pytest.mark.parametrize("path", ["x" * 256, "ü" * 128, "a/" * 500 + "a"])
def test_a_name_that_no_file_can_have_is_refused(folder, path):
    with pytest.raises((InvalidArgument, NotFound)):
        over(folder).resolve(path)


def test_no_descriptor_is_left_open(folder):
    source = over(folder)
    before = len(os.listdir("/proc/self/fd"))
    for path in ("lab/vcenter", "lab", "nobody", "lab/nobody", "nobody/x", "../outside", "lab/vcenter/x"):
        for _ in range(5):
            try:
                source.resolve(path)
            except HyperError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_time_to_keep_a_value_is_configured(folder):
    assert over(folder).resolve("lab/vcenter").ttl_s == 60
    assert over(folder, ttl_s=0).resolve("lab/vcenter").ttl_s == 0
