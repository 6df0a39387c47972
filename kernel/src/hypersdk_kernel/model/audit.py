"""What is to be written into the audit trail. The entries and their chain: hypersdk.auditchain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK = "OK"


@dataclass(frozen=True, slots=True)
class AuditNote:
    """What is to be written down. Holds no secret: names, reasons, digests, and no part of a request's body."""

    actor: str
    action: str
    subject: str
    outcome: str = OK
    details: Mapping[str, Any] = field(default_factory=dict)
