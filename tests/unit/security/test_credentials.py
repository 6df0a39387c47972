"""Tokens, private files, secret references, and who is let in."""

import os
import stat

import pytest
from hypersdk.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unauthenticated
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.security.authn import Authenticator, FailureThrottle
from hypersdk_kernel.security.private import ensure_directory, read_private, write_private
from hypersdk_kernel.security.secrets import MAX_SECRET_BYTES, check_references, resolve_secrets
from hypersdk_kernel.security.tokens import ensure_token, verify

TOKEN = "t" * 43


@pytest.fixture
def clock():
    return ManualClock()


def test_a_token_is_made_once_and_is_private(tmp_path):
    token = ensure_token(tmp_path / "token")
    assert ensure_token(tmp_path / "token") == token
    assert len(token) == 43  # 32 bytes in base64
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_an_empty_token_file_is_replaced_and_an_open_one_refused(tmp_path):
    write_private(tmp_path / "token", b"\n")
    assert verify(ensure_token(tmp_path / "token"), ensure_token(tmp_path / "token"))
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(FailedPrecondition) as caught:
        ensure_token(tmp_path / "token")
    assert caught.value.reason == "STATE_DIR_UNSAFE"


def test_a_link_in_place_of_a_private_file_is_not_followed(tmp_path):
    write_private(tmp_path / "real", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="symbolic links"):
        read_private(tmp_path / "link")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write_private(tmp_path / "f", b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_private(tmp_path / "f", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_directory_others_may_write_to_is_refused(tmp_path, mode):
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(mode)
    with pytest.raises(FailedPrecondition, match="chmod"):
        ensure_directory(tmp_path / "d")


def test_the_unix_socket_is_local_and_tcp_needs_the_token(clock):
    authenticator = Authenticator(TOKEN, clock)
    assert authenticator.actor("unix:", None) == "local"
    assert authenticator.actor("ipv4:127.0.0.1:5", [("authorization", f"Bearer {TOKEN}")]) == "token"
    with pytest.raises(Unauthenticated, match="authorization: Bearer"):
        authenticator.actor("ipv4:127.0.0.1:5", [("user-agent", "x")])


@pytest.mark.parametrize(
    "given", [f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer ü"]
)
def test_anything_else_is_wrong(clock, given):
    with pytest.raises(Unauthenticated) as caught:
        Authenticator(TOKEN, clock).actor("ipv4:127.0.0.1:5", [("authorization", given)])
    assert caught.value.reason == "TOKEN_WRONG"
    assert TOKEN not in caught.value.message


def test_without_a_token_tcp_is_closed(clock):
    with pytest.raises(Unauthenticated):
        Authenticator(None, clock).actor("ipv4:127.0.0.1:5", [("authorization", "Bearer ")])


def test_failures_are_throttled_and_the_right_token_is_not(clock):
    authenticator = Authenticator(TOKEN, clock)
    wrong = [("authorization", "Bearer guess")]
    for port in range(10):
        with pytest.raises(Unauthenticated):
            authenticator.actor(f"ipv4:127.0.0.1:{port}", wrong)
    with pytest.raises(ResourceExhausted) as caught:
        authenticator.actor("ipv4:127.0.0.1:99", wrong)
    assert caught.value.retry_after_s == pytest.approx(1.0)
    assert authenticator.actor("ipv4:127.0.0.1:99", [("authorization", f"Bearer {TOKEN}")]) == "token"
    clock.advance(3)
    with pytest.raises(Unauthenticated):
        authenticator.actor("ipv4:127.0.0.1:99", wrong)


def test_the_throttle_remembers_a_bounded_number_of_addresses(clock):
    throttle = FailureThrottle(clock, burst=1, addresses=2)
    for address in ("a", "b", "c"):
        assert throttle.failed(address) == 0.0
    assert throttle.failed("a") == 0.0  # forgotten
    assert throttle.failed("c") > 0.0


def test_references_are_resolved_and_leave_the_configuration(tmp_path):
    (tmp_path / "s").write_text("hunter2\n")
    config = {"host": "h", "password": f"file:{tmp_path}/s", "key": "env:KEY"}
    plain, secrets = resolve_secrets(config, ("password", "key", "unused"), {"KEY": "k"})
    assert plain == {"host": "h"}
    assert secrets == {"password": "hunter2", "key": "k"}


@pytest.mark.parametrize("value", ["hunter2", "file:relative", "env:", "env:A-B", 7, None, "file:/a\x00b"])
def test_a_secret_itself_is_refused_and_never_repeated(value):
    with pytest.raises(InvalidArgument) as caught:
        check_references({"password": value}, ("password",))
    assert caught.value.reason == "SECRET_NOT_A_REFERENCE"
    assert caught.value.violations[0].field == "connection.config.password"
    assert "hunter2" not in str(caught.value.to_json())


def test_what_cannot_be_resolved_names_the_reference(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    for reference in ("env:NOPE", *(f"file:{tmp_path}/{n}" for n in ("none", "large", "binary", "pipe", "."))):
        with pytest.raises(FailedPrecondition) as caught:
            resolve_secrets({"p": reference}, ("p",), {})
        assert caught.value.reason == "SECRET_UNAVAILABLE"
        assert caught.value.metadata["reference"] == reference
