"""A notification as a mail. Whatever a stranger chose (names, messages) becomes text of one header or of the body, and
never a header of its own. Pure."""

from __future__ import annotations

import json
import re
import string
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, getaddresses

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.plugin.notifier import Notification

FIELDS = ("type", "subject", "actor", "time", "revision", "subscription")
MAX_SUBJECT = 300
MAX_BODY = 256 << 10
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def address(text: str, field: str) -> Address:
    """`a@b.example` or `Name <a@b.example>`. Raises InvalidArgument (CONFIG_INVALID): one mailbox, ASCII, nothing that
    could begin a header or a command."""
    found = getaddresses([text])
    name, mailbox = found[0] if len(found) == 1 else ("", "")
    if _CONTROL.search(text) or not _MAILBOX.fullmatch(mailbox):
        rule = "must be one address such as ops@example.com or Ops <ops@example.com>"
        raise InvalidArgument(
            f"{field} {rule}", reason="CONFIG_INVALID", violations=(FieldViolation(f"config.{field}", rule),)
        )
    user, _, domain = mailbox.rpartition("@")
    return Address(name, user, domain)


def subject_template(text: str) -> string.Template:
    """Raises InvalidArgument (CONFIG_INVALID) for a placeholder that is none of ours."""
    template = string.Template(text)
    if not template.is_valid() or set(template.get_identifiers()) - set(FIELDS) or _CONTROL.search(text):
        rule = f"may hold {', '.join('$' + f for f in FIELDS)}; a dollar sign is $$"
        raise InvalidArgument(
            f"subject {rule}", reason="CONFIG_INVALID", violations=(FieldViolation("config.subject", rule),)
        )
    return template


def message_of(
    notification: Notification, sender: Address, recipients: Sequence[Address], subject: string.Template
) -> EmailMessage:
    """The whole mail."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(notification.time_s))
    fields = {
        "type": notification.type, "subject": notification.subject, "actor": notification.actor, "time": when,
        "revision": str(notification.revision), "subscription": notification.subscription,
    }  # fmt: skip
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = tuple(recipients)
    mail["Subject"] = one_line(subject.substitute(fields))[:MAX_SUBJECT]
    mail["Date"] = format_datetime(datetime.fromtimestamp(notification.time_s, UTC))
    mail["Message-ID"] = f"<{_token(notification.id)}@{sender.domain}>"
    mail["X-HyperSDK-Delivery-Id"] = _token(notification.id)
    mail["Auto-Submitted"] = "auto-generated"
    lines = [f"{name + ':':<14}{one_line(value)[:1000]}" for name, value in fields.items()]
    payload = json.dumps(notification.payload, indent=2, ensure_ascii=True)[:MAX_BODY]
    mail.set_content("\n".join([*lines, "", payload, ""]), cte="base64")
    return mail


def one_line(text: str) -> str:
    """Without what could end a header, direct a terminal or turn the reading order."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _token(delivery_id: str) -> str:
    """A delivery id is printable ASCII by contract; whatever is not becomes '_'."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", delivery_id)[:128]
