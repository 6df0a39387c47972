"""What is sent: the JSON body, after CloudEvents 1.0 (structured mode), and its signature.

The signature covers the delivery id and the time of sending besides the body, as in the Standard Webhooks
specification, so that an old request cannot be sent again under a new id or time. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from hypersdk.plugin.notifier import Notification

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
SIGNATURE_VERSION = "v1"


def body_of(notification: Notification) -> bytes:
    """UTF-8 JSON; what text cannot be UTF-8 (lone surrogates) is escaped."""
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": notification.id,
        "source": "hypersdk",
        "type": f"dev.hypersdk.{notification.type}",
        "subject": notification.subject,
        "time": _rfc3339(notification.time_s),
        "datacontenttype": "application/json",
        "revision": notification.revision,
        "actor": notification.actor,
        "subscription": notification.subscription,
        "attempt": notification.attempt,
        "data": notification.payload,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def signature(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. `timestamp`: when it is sent, in seconds."""
    signed = b".".join((delivery_id.encode("ascii"), str(timestamp).encode("ascii"), body))
    digest = hmac.new(secret.encode("utf-8"), signed, hashlib.sha256).digest()
    return f"{SIGNATURE_VERSION},{base64.b64encode(digest).decode('ascii')}"


def headers_of(notification: Notification, body: bytes, secrets: Mapping[str, str], now_s: float) -> dict[str, str]:
    """Every header but Host. The id is printable ASCII by contract; anything else is no header of ours."""
    if not notification.id.isascii() or not notification.id.isprintable() or " " in notification.id:
        raise ValueError("a delivery id is printable ASCII without spaces")
    headers = {
        "Content-Type": CONTENT_TYPE,
        "Content-Length": str(len(body)),
        "User-Agent": "hypersdk-webhook/1",
        "Connection": "close",
        "webhook-id": notification.id,
        "webhook-timestamp": str(int(now_s)),
    }
    if secrets.get("secret"):
        headers["webhook-signature"] = signature(secrets["secret"], notification.id, int(now_s), body)
    if secrets.get("authorization"):
        headers["Authorization"] = secrets["authorization"]
    return headers


def _rfc3339(seconds: float) -> str:
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{micros:06d}Z"
