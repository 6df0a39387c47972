"""A mail server of the test's own (aiosmtpd) on loopback, with TLS and AUTH where a test wants them."""

import datetime as dt
import socket
import ssl
import threading
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from hypersdk.testing.notifier_contract import Receiver

PASSWORD = "planted-mail-password"


class Mailbox(Receiver):
    """`mails`: what was taken. `answers`: by address, what RCPT says instead of 250."""

    def __init__(self, **controller):
        self.mails, self.answers, self.data_answer = [], {}, "250 OK"
        self.quiet = threading.Event()
        self.silent = False
        self.controller = Controller(self, hostname="127.0.0.1", port=_free_port(), **controller)
        self.controller.start()
        self.port = self.controller.port
        self.open = True

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802 - aiosmtpd's name
        answer = self.answers.get(address)
        if answer is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        import asyncio

        while self.silent and not self.quiet.is_set():
            await asyncio.sleep(0.02)
        if self.data_answer.startswith("250"):
            mail = message_from_bytes(envelope.content, policy=policy.default)
            mail.recipients, mail.over_tls, mail.user = envelope.rcpt_tos, session.ssl, session.auth_data
            self.mails.append(mail)
        return self.data_answer

    def received(self):
        return [str(mail["X-HyperSDK-Delivery-Id"]) for mail in self.mails]

    def refuse(self, *, permanently):
        self.data_answer = "554 No" if permanently else "451 Later"

    def fall_silent(self):
        self.silent = True

    def go_away(self):
        self.quiet.set()
        if self.open:
            self.open = False
            self.controller.stop()


def _free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def authenticate(server, session, envelope, mechanism, data):
    ok = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=ok, handled=False, auth_data=data.login if ok else None)


@pytest.fixture
def start():
    made = []

    def make(**controller):
        made.append(Mailbox(**controller))
        return made[-1]

    yield make
    for one in made:
        one.go_away()


@pytest.fixture
def checked():
    """Controller arguments that ask for AUTH with PASSWORD."""
    return {"authenticator": authenticate}


@pytest.fixture
def mailbox(start):
    return start()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(encoded)
    return folder


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context
