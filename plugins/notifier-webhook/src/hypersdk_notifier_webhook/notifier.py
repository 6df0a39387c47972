"""WebhookNotifier: one POST a notification, answered 2xx or not taken.

    2xx                        taken
    429, 503 with Retry-After  ResourceExhausted, Unavailable: tried again, not before the time it names
    408, 429, 5xx              tried again
    3xx                        WEBHOOK_REDIRECTED: never followed, or a redirect would choose where our events go
    other 4xx                  WEBHOOK_REFUSED: for good
    no connection, no answer   tried again; a certificate that is not valid too, it may be renewed

Not here: how often and when (the kernel's subscription).
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from hypersdk.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    HyperError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from hypersdk.plugin import Health, Notification, Notifier, Receipt

from hypersdk_notifier_webhook.body import body_of, headers_of
from hypersdk_notifier_webhook.deadline import TimedSocket
from hypersdk_notifier_webhook.target import Target, target_of

MIN_SECRET = 16
MAX_RETRY_AFTER_S = 86_400.0
_HEADER_VALUE = re.compile(r"[\x21-\x7e][\x20-\x7e]*")


class WebhookNotifier(Notifier):
    """Keeps no connection open between notifications, and no state: any number of threads may send.

    `clock`: wall time, seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._target: Target | None = None
        self._secrets: dict[str, str] = {}
        self._timeout_s = 10.0
        self._tls: ssl.SSLContext | None = None

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self._target = target_of(config)
        self._timeout_s = float(config.get("timeout_s", 10.0))
        key = secrets.get("secret", "")
        if key and len(key) < MIN_SECRET:
            raise _invalid("secret", f"must have {MIN_SECRET} characters or more")
        authorization = secrets.get("authorization", "")
        if authorization and not _HEADER_VALUE.fullmatch(authorization):
            raise _invalid("authorization", "must be printable ASCII on one line")
        self._secrets = {"secret": key, "authorization": authorization}
        if self._target.scheme == "https":
            self._tls = _context(config.get("ca_file"))

    def health(self) -> Health:
        began = time.monotonic()
        try:
            connection = self._connect()
            connection.close()
        except HyperError as exc:
            return Health(False, exc.message, time.monotonic() - began)
        return Health(True, "", time.monotonic() - began)

    def send(self, notification: Notification) -> Receipt:
        try:
            body = body_of(notification)
            headers = headers_of(notification, body, self._secrets, self._clock())
        except ValueError as exc:
            raise InvalidArgument("the notification cannot be said in JSON", reason="WEBHOOK_REFUSED") from exc
        target = self._configured()
        connection = self._connect()
        try:
            connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", target.host_header)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
        except TimeoutError as exc:
            raise _timeout(target, self._timeout_s) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise _unreachable(target, exc) from exc
        finally:
            connection.close()
        return self._judge(target, response.status, response.getheader("Retry-After"))

    def _judge(self, target: Target, status: int, retry_after: str | None) -> Receipt:
        if 200 <= status < 300:
            return Receipt({"status": str(status)})
        told = f"{target.shown} answered {status}"
        metadata = {"status": str(status)}
        wait_s = _seconds(retry_after, self._clock())
        if status == 429:
            raise ResourceExhausted(told, reason="WEBHOOK_BUSY", metadata=metadata, retry_after_s=wait_s)
        if status == 408 or status >= 500:
            raise Unavailable(told, reason="WEBHOOK_FAILED", metadata=metadata, retry_after_s=wait_s)
        if 300 <= status < 400:
            text = f"{told}; redirects are not followed: give the final address as url"
            raise FailedPrecondition(text, reason="WEBHOOK_REDIRECTED", metadata=metadata)
        raise FailedPrecondition(told, reason="WEBHOOK_REFUSED", metadata=metadata)

    def _connect(self) -> http.client.HTTPConnection:
        """A connection to the first address that takes one."""
        target = self._configured()
        last: OSError | None = None
        deadline = time.monotonic() + self._timeout_s
        for address in target.addresses():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            try:
                return self._open(target, address, left_s)
            except ssl.SSLCertVerificationError as exc:
                raise Unavailable(
                    f"the certificate of {target.shown} is not valid: {exc.verify_message}",
                    reason="WEBHOOK_CERTIFICATE_INVALID",
                ) from exc
            except OSError as exc:
                last = exc
        if last is None or isinstance(last, TimeoutError):
            raise _timeout(target, self._timeout_s) from last
        raise _unreachable(target, last) from last

    def _open(self, target: Target, address: str, timeout_s: float) -> http.client.HTTPConnection:
        sock = socket.create_connection((address, target.port), timeout_s)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise
        connection = http.client.HTTPConnection(target.host, target.port, timeout=self._timeout_s)
        connection.sock = TimedSocket(sock, self._timeout_s)
        return connection

    def _configured(self) -> Target:
        assert self._target is not None, "configure comes first"
        return self._target


def _context(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        raise _invalid("ca_file", f"cannot be read as PEM certificates: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _seconds(retry_after: str | None, now_s: float) -> float | None:
    """Of a Retry-After header (RFC 9110, section 10.2.3): a number of seconds or a date; None for anything else."""
    if retry_after is None or len(retry_after) > 64:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now_s, 0.0), MAX_RETRY_AFTER_S)
    except (ValueError, TypeError, OverflowError):
        return None


def _timeout(target: Target, timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"{target.shown} did not answer within {timeout_s:g} s", reason="WEBHOOK_TIMEOUT")


def _unreachable(target: Target, exc: Exception) -> Unavailable:
    what = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
    return Unavailable(f"{target.shown} cannot be reached: {what}", reason="WEBHOOK_UNREACHABLE")


def _invalid(field: str, text: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field} {text}", reason="CONFIG_INVALID", violations=(FieldViolation(f"config.{field}", text),)
    )
