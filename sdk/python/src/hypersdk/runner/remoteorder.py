"""The order: what an agent is started with, on its standard input: one line of JSON.

It travels through an executor, whose arguments and logs others may read. So it has no secret but a token that the
kernel takes once, for a certificate of this one attempt.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument

PROTOCOL = 1
MAX_ORDER_BYTES = 64 << 10
_UID = re.compile(r"[0-9a-f-]{8,64}")


@dataclass(frozen=True, slots=True)
class AgentOrder:
    """address  `host:port` of the kernel's listener for runners
    ca         PEM of the kernel's CA
    uid        the job's; attempt: its number
    token      good for one enrolment
    work_dir   where this machine keeps what runs; ours alone
    orphan_s   an attempt whose kernel was silent for so long ends itself
    """

    address: str
    ca: str
    uid: str
    attempt: int
    token: str
    work_dir: Path
    orphan_s: int

    def __repr__(self) -> str:
        return f"AgentOrder({self.uid!r}, {self.attempt})"


def parse(line: bytes) -> AgentOrder:
    """Raises InvalidArgument (AGENT_ORDER_INVALID)."""
    if len(line) > MAX_ORDER_BYTES:
        raise _invalid("", f"has more than {MAX_ORDER_BYTES} bytes")
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise _invalid("", "is not JSON") from exc
    if not isinstance(data, dict):
        raise _invalid("", "is not an object")
    if data.get("protocol") != PROTOCOL:
        raise _invalid("protocol", f"is {data.get('protocol')!r}; this agent speaks {PROTOCOL}: use one version of it")
    order = AgentOrder(
        address=_text(data, "address"),
        ca=_text(data, "ca"),
        uid=_text(data, "uid"),
        attempt=_count(data, "attempt"),
        token=_text(data, "token"),
        work_dir=Path(_text(data, "work_dir")),
        orphan_s=_count(data, "orphan_s"),
    )
    if not _UID.fullmatch(order.uid):
        raise _invalid("uid", "is no job's")
    if not order.work_dir.is_absolute():
        raise _invalid("work_dir", "must be an absolute path")
    host, _, port = order.address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise _invalid("address", "must be host:port")
    return order


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise _invalid(key, "must be text")
    return value


def _count(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise _invalid(key, "must be a number above 0")
    return value


def _invalid(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(
        f"agent order: {field or 'it'} {rule}",
        reason="AGENT_ORDER_INVALID",
        violations=(FieldViolation(field, rule),),
    )
