"""What remote runners prove themselves by: a token that is good once, then a certificate of one attempt.

The token goes through an executor, so others may read it: it is an HMAC of the attempt under a key of this kernel
(`<state_dir>/tls/enrol.key`), it is taken once (whoever comes second is refused, so a stolen one is noticed), and only
while the attempt lives. The certificate's common name is `<job uid>/<attempt>`; its key is made here, and travels over
TLS to whoever brought the token. It lasts an hour and is renewed over the connection that it made. None is ever
revoked by a list: a certificate counts only as long as its attempt is live, which the listener asks at every
connection.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from hypersdk_kernel.security import tls
from hypersdk_kernel.security.private import read_private, write_private

LIFETIME_S = 3600
_KEY_BYTES = 32
_NAME = re.compile(r"([0-9a-f-]{8,60})/([1-9][0-9]{0,8})")

AttemptKey = tuple[str, int]
"""A job's uid and the attempt's number."""


@dataclass(frozen=True, slots=True)
class Certified:
    """PEM of a certificate and its private key."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Certified(…)"


class AttemptAuthority:
    """Made after `ensure_tls`. `state_dir`: the kernel's. Raises FailedPrecondition (STATE_DIR_UNSAFE)."""

    def __init__(self, state_dir: Path, material: tls.TlsMaterial) -> None:
        self._folder = state_dir / "tls"
        self.ca_pem = material.ca_pem.decode("ascii")
        key = read_private(self._folder / "enrol.key")
        if key is None or len(key) != _KEY_BYTES:
            key = secrets.token_bytes(_KEY_BYTES)
            write_private(self._folder / "enrol.key", key)
        self._key = key

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3; a client may come without a certificate, to enrol, and never with a foreign one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._folder / "server.pem", self._folder / "server.key")
        context.load_verify_locations(cadata=self.ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = 0  # each connection is judged by its certificate
        return context

    def token(self, attempt: AttemptKey) -> str:
        return hmac.new(self._key, f"{attempt[0]}/{attempt[1]}".encode(), hashlib.sha256).hexdigest()

    def is_token(self, attempt: AttemptKey, token: str) -> bool:
        return hmac.compare_digest(self.token(attempt).encode(), token.encode("utf-8", "replace"))

    def issue(self, attempt: AttemptKey, now: float, lifetime_s: float = LIFETIME_S) -> Certified:
        """A certificate for `attempt`, from `now` (seconds since the epoch) on."""
        ca = tls.load_pair(self._folder, "ca")
        if ca is None:
            raise RuntimeError("the kernel's CA has gone from its state directory")
        key = ec.generate_private_key(ec.SECP256R1())
        at = dt.datetime.fromtimestamp(now, dt.UTC)
        certificate = (
            tls.builder(f"{attempt[0]}/{attempt[1]}", key, at, lifetime_s / 86400)
            .issuer_name(ca.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(tls.usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
            )
            .sign(ca.key, hashes.SHA256())
        )
        pair = tls.Pair(certificate, key)
        return Certified(pair.certificate_pem().decode("ascii"), pair.key_pem().decode("ascii"))


def attempt_of(peer_certificate: object) -> AttemptKey | None:
    """Whose certificate it is, as `ssl.SSLSocket.getpeercert` gives one that was verified; None for none."""
    if not isinstance(peer_certificate, dict):
        return None
    for part in peer_certificate.get("subject", ()):
        for name, value in part:
            found = _NAME.fullmatch(value) if name == "commonName" else None
            if found is not None:
                return found[1], int(found[2])
    return None
