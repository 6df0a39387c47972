"""EmailNotifier: one mail a notification, handed to one server.

    2yz               taken: the server's business from now on
    4yz               EMAIL_DEFERRED: tried again
    5yz               EMAIL_REFUSED: for good
    535, 534, 530     EMAIL_AUTH_FAILED: for good, until somebody mends the password
    some recipients   refused for good: the others have it, and the receipt names how many do not; put off: all is
                      tried again, and who has it already gets it twice under the same Message-ID

Not here: spools, bounces (the server's), how often and when (the kernel's subscription).
"""

from __future__ import annotations

import contextlib
import os
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from email.headerregistry import Address
from string import Template
from typing import Any

from hypersdk.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    HyperError,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
)
from hypersdk.plugin import Health, Notification, Notifier, Receipt

from hypersdk_notifier_email.message import address, message_of, subject_template

PORTS = {"starttls": 587, "tls": 465, "none": 25}
AUTH_REFUSED = frozenset({530, 534, 535, 538})


class EmailNotifier(Notifier):
    """Keeps no connection open between mails: any number of threads may send."""

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self._host = str(config["host"])
        self._security = str(config.get("security", "starttls"))
        self._port = int(config.get("port", PORTS[self._security]))
        self._timeout_s = float(config.get("timeout_s", 10.0))
        self._sender: Address = address(str(config["from"]), "from")
        self._recipients = tuple(address(str(text), "to") for text in config["to"])
        self._subject: Template = subject_template(str(config.get("subject", "[hypersdk] $type $subject")))
        self._user, self._password = str(config.get("user", "")), secrets.get("password", "")
        if bool(self._user) != bool(self._password):
            raise _invalid("user", "and password are given together or not at all")
        if self._password and self._security == "none":
            raise _invalid("security", "must not be none with a password: it would be sent in the clear")
        self._tls = None if self._security == "none" else _context(config.get("ca_file"))

    def health(self) -> Health:
        began = time.monotonic()
        try:
            with self._session() as server:
                server.noop()
        except HyperError as exc:
            return Health(False, exc.message, time.monotonic() - began)
        return Health(True, "", time.monotonic() - began)

    def send(self, notification: Notification) -> Receipt:
        mail = message_of(notification, self._sender, self._recipients, self._subject)
        with self._session() as server:
            recipients = [recipient.addr_spec for recipient in self._recipients]
            refused = server.sendmail(self._sender.addr_spec, recipients, mail.as_bytes())
        put_off = [code for code, _ in refused.values() if code < 500]
        if put_off:
            raise self._deferred(put_off[0])
        return Receipt({"recipients_refused": str(len(refused))} if refused else {})

    @contextlib.contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        """A server that knows us; every failure as one of the tree. The whole session has one deadline."""
        server: smtplib.SMTP | None = None
        expired = threading.Event()
        try:
            server = self._connect()
            with _deadline(server, 2 * self._timeout_s, expired):
                self._introduce(server)
                yield server
        except HyperError:
            raise
        except (smtplib.SMTPException, OSError) as exc:
            raise self._typed(exc, late=expired.is_set()) from exc
        finally:
            if server is not None:
                server.close()

    def _connect(self) -> smtplib.SMTP:
        if self._security == "tls":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_s, context=self._tls)
        return smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)

    def _introduce(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if self._security == "starttls":
            if not server.has_extn("starttls"):
                raise FailedPrecondition(
                    f"{self._where} offers no STARTTLS; give the port that does, or security = tls",
                    reason="EMAIL_TLS_UNSUPPORTED",
                )
            server.starttls(context=self._tls)
            server.ehlo()
        if self._user:
            server.login(self._user, self._password)

    def _typed(self, exc: smtplib.SMTPException | OSError, *, late: bool) -> HyperError:
        """Codes only: a server's words may repeat what we sent."""
        if late or isinstance(exc, TimeoutError):
            return DeadlineExceeded(f"{self._where} did not answer in time", reason="EMAIL_TIMEOUT")
        if isinstance(exc, ssl.SSLCertVerificationError):
            return Unavailable(
                f"the certificate of {self._where} is not valid: {exc.verify_message}",
                reason="EMAIL_CERTIFICATE_INVALID",
            )
        if isinstance(exc, smtplib.SMTPRecipientsRefused):
            return self._of_code(min(code for code, _ in exc.recipients.values()))
        if isinstance(exc, smtplib.SMTPResponseException):
            return self._of_code(exc.smtp_code)
        if isinstance(exc, smtplib.SMTPNotSupportedError):
            return FailedPrecondition(
                f"{self._where} does not support what this needs (AUTH, or addresses)", reason="EMAIL_REFUSED"
            )
        what = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
        return Unavailable(f"{self._where} cannot be reached: {what}", reason="EMAIL_SERVER_UNREACHABLE")

    def _of_code(self, code: int) -> HyperError:
        if code in AUTH_REFUSED:
            text = f"{self._where} answered {code}: it does not accept user and password"
            return PermissionDenied(text, reason="EMAIL_AUTH_FAILED", metadata={"code": str(code)})
        if 500 <= code < 600:
            text = f"{self._where} refused the mail for good ({code})"
            return FailedPrecondition(text, reason="EMAIL_REFUSED", metadata={"code": str(code)})
        return self._deferred(code)

    def _deferred(self, code: int) -> Unavailable:
        text = f"{self._where} does not take the mail now ({code})"
        return Unavailable(text, reason="EMAIL_DEFERRED", metadata={"code": str(code)})

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"


@contextlib.contextmanager
def _deadline(server: smtplib.SMTP, seconds: float, expired: threading.Event) -> Iterator[None]:
    """Ends the session's socket when it takes longer: smtplib's timeout begins anew with every byte. Through a second
    descriptor, because TLS sockets may not be touched by two threads."""
    assert server.sock is not None
    twin = socket.socket(fileno=os.dup(server.sock.fileno()))

    def end() -> None:
        expired.set()
        with contextlib.suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        twin.close()


def _context(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        raise _invalid("ca_file", f"cannot be read as PEM certificates: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _invalid(field: str, text: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field} {text}", reason="CONFIG_INVALID", violations=(FieldViolation(f"config.{field}", text),)
    )
