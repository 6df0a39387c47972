"""The generated CA and certificate: made once, kept, renewed in time, never readable by others."""

import datetime as dt
import stat

import pytest
from cryptography import x509
from hypersdk.errors import FailedPrecondition
from hypersdk_kernel.security.tls import RENEW_DAYS, SERVER_DAYS, ensure_tls

NOW = 1_800_000_000.0
DAY = 86400.0


def names(pem: bytes) -> set[str]:
    found = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(name.value) for name in found.value}


def test_the_certificate_is_signed_by_the_ca_and_names_this_machine(tmp_path):
    made = ensure_tls(tmp_path, {"host.example"}, NOW)
    ca, server = (x509.load_pem_x509_certificate(pem) for pem in (made.ca_pem, made.certificate_pem))
    server.verify_directly_issued_by(ca)
    assert names(made.certificate_pem) == {"localhost", "127.0.0.1", "::1", "host.example"}
    constraints = [c.extensions.get_extension_for_class(x509.BasicConstraints).value for c in (ca, server)]
    assert [c.ca for c in constraints] == [True, False]


def test_keys_are_private(tmp_path):
    ensure_tls(tmp_path, set(), NOW)
    for file in (tmp_path / "tls").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_a_second_start_keeps_what_is_there(tmp_path):
    assert ensure_tls(tmp_path, {"a"}, NOW) == ensure_tls(tmp_path, {"a"}, NOW + 100 * DAY)


@pytest.mark.parametrize(("days_left", "renewed"), [(RENEW_DAYS + 1, False), (RENEW_DAYS - 1, True), (-5, True)])
def test_the_server_certificate_is_renewed_when_its_end_is_near_and_the_ca_stays(tmp_path, days_left, renewed):
    first = ensure_tls(tmp_path, set(), NOW)
    later = NOW + (SERVER_DAYS - days_left) * DAY
    second = ensure_tls(tmp_path, set(), later)
    assert (second.certificate_pem != first.certificate_pem) is renewed
    assert second.ca_pem == first.ca_pem
    end = x509.load_pem_x509_certificate(second.certificate_pem).not_valid_after_utc
    assert renewed is (end > dt.datetime.fromtimestamp(later + RENEW_DAYS * DAY, dt.UTC)) or not renewed


def test_a_new_name_makes_a_new_certificate(tmp_path):
    ensure_tls(tmp_path, set(), NOW)
    assert "new.example" in names(ensure_tls(tmp_path, {"new.example"}, NOW).certificate_pem)


@pytest.mark.parametrize("file", ["server.key", "server.pem", "ca.pem", "ca.key"])
def test_a_damaged_or_half_written_pair_is_replaced(tmp_path, file):
    ensure_tls(tmp_path, set(), NOW)
    (tmp_path / "tls" / file).write_bytes(b"-----BEGIN NONSENSE-----")
    made = ensure_tls(tmp_path, set(), NOW)
    server = x509.load_pem_x509_certificate(made.certificate_pem)
    server.verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca_pem))


def test_a_key_that_others_may_read_is_refused(tmp_path):
    ensure_tls(tmp_path, set(), NOW)
    (tmp_path / "tls" / "server.key").chmod(0o644)
    with pytest.raises(FailedPrecondition, match="others"):
        ensure_tls(tmp_path, set(), NOW)
