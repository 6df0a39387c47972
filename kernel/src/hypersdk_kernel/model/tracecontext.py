"""Trace contexts (W3C Trace Context, level 1), and those of jobs. Pure.

A job's trace has the job's uid as its id, and the ids of its spans follow from the uid. So the context is carried by
the job wherever it goes, through a restart and to another kernel, and costs no column.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Hexadecimal, 32 and 16 digits."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


def parse(traceparent: str) -> TraceContext | None:
    """None for anything that is not one: a caller's wrong header starts a new trace, as the standard wants it."""
    found = _TRACEPARENT.fullmatch(traceparent[:256])
    if found is None or traceparent.startswith("ff") or not int(found[1], 16) or not int(found[2], 16):
        return None
    return TraceContext(found[1], found[2])


def of_job(uid: str, attempt: int = 0) -> TraceContext:
    """Of a job's own span, or of one of its attempts."""
    what = f"{uid}/{attempt}" if attempt else uid
    return TraceContext(uid.replace("-", ""), hashlib.sha256(what.encode()).hexdigest()[:16])
