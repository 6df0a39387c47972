"""The audit trail's values and its chain of hashes. Pure.

An entry's hash is SHA-256 over `hypersdk-audit-v1` and a zero byte, then: `seq` (8 bytes, big endian), `time` (IEEE 754
double, big endian), each of `actor`, `action`, `subject`, `outcome`, `details` as the length of its UTF-8 (4 bytes, big
endian) and the UTF-8 itself, and the 32 bytes of `prev_hash`. Every field has its length before it, so no two entries
encode alike.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DOMAIN = b"hypersdk-audit-v1\0"
GENESIS = "0" * 64
"""What the first entry has in the place of a hash before it."""
OK = "OK"


@dataclass(frozen=True, slots=True)
class AuditNote:
    """What is to be written down. Holds no secret: names, reasons, digests, and no part of a request's body."""

    actor: str
    action: str
    subject: str
    outcome: str = OK
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """As it is stored. `time`: seconds since the epoch; `details`: the JSON text whose bytes were hashed."""

    seq: int
    time: float
    actor: str
    action: str
    subject: str
    outcome: str
    details: str
    prev_hash: str
    hash: str

    def computed_hash(self) -> str:
        """What `hash` is, if nobody has changed the entry. Raises ValueError for a `prev_hash` that is no hash."""
        total = hashlib.sha256(DOMAIN + struct.pack(">qd", self.seq, self.time))
        for text in (self.actor, self.action, self.subject, self.outcome, self.details):
            encoded = text.encode("utf-8", "surrogatepass")
            total.update(struct.pack(">I", len(encoded)) + encoded)
        total.update(bytes.fromhex(self.prev_hash))
        return total.hexdigest()


def fault(entry: AuditEntry, seq: int, prev_hash: str) -> str:
    """What is wrong with `entry`, which should be number `seq` and follow `prev_hash`; empty when nothing is."""
    if entry.seq != seq:
        return f"entry {seq} is missing: after {seq - 1} comes {entry.seq}"
    if entry.prev_hash != prev_hash:
        return "it does not follow the entry before it"
    try:
        computed = entry.computed_hash()
    except (ValueError, struct.error):
        computed = ""
    return "" if computed == entry.hash else "its content is not what was hashed"
