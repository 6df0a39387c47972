"""The server's certificate, from a CA of its own that is generated once.

`<state_dir>/tls/`: `ca.pem` for clients; `ca.key`, `server.pem`, `server.key` for the daemon alone. ECDSA on P-256.
The CA is valid for ten years and can sign end certificates only; the server's for 397 days (what browsers accept),
for the names that clients on this machine use. On start either is replaced when it has less than 30 days left, does
not fit its key, or lacks a name.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hypersdk_kernel.security.private import ensure_directory, read_private, write_private

CA_DAYS = 3650
SERVER_DAYS = 397
RENEW_DAYS = 30
BACKDATE = dt.timedelta(days=2)
"""Clocks of client and server differ, and ours may have been a day ahead when it was made: a certificate of the future
is refused."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What a listener needs: PEM of the CA, of the server's certificate and of its private key."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes


@dataclass(frozen=True, slots=True)
class Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def lasts(self, now: dt.datetime) -> bool:
        return self.certificate.not_valid_after_utc - now > dt.timedelta(days=RENEW_DAYS)


def ensure_tls(state_dir: Path, hostnames: Collection[str], now: float) -> TlsMaterial:
    """The material in `<state_dir>/tls`, made or renewed as needed. `now`: seconds since the epoch. Raises
    FailedPrecondition (STATE_DIR_UNSAFE) when others may read the keys."""
    folder = state_dir / "tls"
    ensure_directory(folder)
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    names = {"localhost", "127.0.0.1", "::1", *hostnames}
    ca = load_pair(folder, "ca")
    if ca is None or not ca.lasts(at):
        ca = _make_ca(at)
        _save(folder, "ca", ca)
    server = load_pair(folder, "server")
    if server is None or not server.lasts(at) or not _fits(server, ca, names):
        server = _make_server(ca, sorted(names), at)
        _save(folder, "server", server)
    return TlsMaterial(ca.certificate_pem(), server.certificate_pem(), server.key_pem())


def load_pair(folder: Path, name: str) -> Pair | None:
    """The pair, or None when it is missing or its two halves do not belong together."""
    key_pem = read_private(folder / f"{name}.key")
    certificate_pem = read_private(folder / f"{name}.pem")
    if key_pem is None or certificate_pem is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, None)
    except ValueError:
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return Pair(certificate, key)


def _save(folder: Path, name: str, pair: Pair) -> None:
    # Key first: a crash in between leaves a pair that does not fit, which the next start replaces.
    write_private(folder / f"{name}.key", pair.key_pem())
    write_private(folder / f"{name}.pem", pair.certificate_pem())


def _fits(server: Pair, ca: Pair, names: Collection[str]) -> bool:
    try:
        server.certificate.verify_directly_issued_by(ca.certificate)
        found = server.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001 - a bad signature, a missing extension: whatever is wrong with it, it is replaced
        return False
    return {str(name.value) for name in found} >= set(names)


def builder(subject: str, key: ec.EllipticCurvePrivateKey, now: dt.datetime, days: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _make_ca(now: dt.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    begun = builder("HyperSDK local CA", key, now, CA_DAYS)
    certificate = (
        begun.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "HyperSDK local CA")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def _make_server(ca: Pair, names: Collection[str], now: dt.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        builder("hypersdkd", key, now, SERVER_DAYS)
        .issuer_name(ca.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
        )
        .sign(ca.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
