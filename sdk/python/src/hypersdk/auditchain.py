"""The chain of hashes of the audit trail, and the files that old entries are archived in. Pure, but for reading those.

An entry's hash is SHA-256 over `hypersdk-audit-v1` and a zero byte, then: `seq` (8 bytes, big endian), `time` (IEEE 754
double, big endian), each of `actor`, `action`, `subject`, `outcome`, `details` as the length of its UTF-8 (4 bytes, big
endian) and the UTF-8 itself, and the 32 bytes of `prev_hash`. Every field has its length before it, so no two entries
encode alike.

An archive is a folder of files `audit-<seq of the first>.jsonl`: a JSON object a line, with the names and the values
that were hashed. A line is whole when it ends; one that does not was cut off by a crash and is not there.

Here and not in the kernel, so that a chain can be verified where there is none.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DOMAIN = b"hypersdk-audit-v1\0"
GENESIS = "0" * 64
"""What the first entry has in the place of a hash before it."""
PATTERN = "audit-*.jsonl"


def chained(seq: int, time: float, texts: Iterable[str], prev_hash: str) -> str:
    """The hash of an entry; `texts` are its actor, action, subject, outcome and details. Raises ValueError for a
    `prev_hash` that is no hash."""
    parts = [DOMAIN, struct.pack(">qd", seq, time)]
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        parts += (len(encoded).to_bytes(4), encoded)
    parts.append(bytes.fromhex(prev_hash))
    return hashlib.sha256(b"".join(parts)).hexdigest()


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
        texts = (self.actor, self.action, self.subject, self.outcome, self.details)
        return chained(self.seq, self.time, texts, self.prev_hash)

    def line(self) -> bytes:
        """As it is archived."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii") + b"\n"


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


class Walk:
    """Along a chain, entry by entry, until one is not as it was written.

    seq, hash        of the last one that was
    count            how many were
    bad_seq, problem  the first that is not, and what is wrong with it; empty while there is none
    """

    def __init__(self, anchor_seq: int = 0, anchor_hash: str = "") -> None:
        """The anchor is an entry that was noted down elsewhere; 0: none."""
        self.seq, self.hash = 0, GENESIS
        self.count = self.bad_seq = 0
        self.problem = ""
        self._anchor = (anchor_seq, anchor_hash)

    def begin_after(self, seq: int, hash_: str) -> None:
        """Those up to `seq` are not looked at."""
        self.seq, self.hash = seq, hash_

    def step(self, entry: AuditEntry) -> bool:
        """Whether it is as it was written, and was the next one."""
        problem = fault(entry, self.seq + 1, self.hash)
        if not problem and entry.seq == self._anchor[0] and entry.hash != self._anchor[1]:
            problem = "it is not the entry that was noted down as the anchor: the chain was written anew"
        if problem:
            return self.fail(self.seq + 1, problem)
        self.seq, self.hash = entry.seq, entry.hash
        self.count += 1
        return True

    def end(self) -> bool:
        """There are no more."""
        if not self.problem and self._anchor[0] > self.seq:
            return self.fail(self.seq + 1, f"it is missing: entry {self._anchor[0]} was noted down as the anchor")
        return not self.problem

    def fail(self, seq: int, problem: str) -> bool:
        self.bad_seq, self.problem = max(seq, 1), problem
        return False


def archive_files(paths: Iterable[Path]) -> list[Path]:
    """Files as they are given, and those in folders."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    return found


def archived(paths: Iterable[Path]) -> Iterator[AuditEntry]:
    """What files and folders hold, by number. An entry that several files have, as when kernels took over from each
    other, comes once. Raises OSError."""
    last: AuditEntry | None = None
    for entry in heapq.merge(*(entries(file) for file in archive_files(paths)), key=lambda found: found.seq):
        if entry != last:
            yield entry
        last = entry


def entries(file: Path) -> Iterator[AuditEntry]:
    """Of one file. A line that is none stands for the entry after the one before it, with nothing in it that could be
    right."""
    seq = _first(file) - 1
    with file.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            entry = _parse(line) or AuditEntry(seq + 1, 0.0, "", "", "", "", "", "", "")
            seq = entry.seq
            yield entry


def _first(file: Path) -> int:
    number = file.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 1


def _parse(line: bytes) -> AuditEntry | None:
    try:
        found: dict[str, Any] = json.loads(line)
        entry = AuditEntry(**found)
        ours = isinstance(entry.seq, int) and isinstance(entry.time, float)
        texts = (entry.actor, entry.action, entry.subject, entry.outcome, entry.details, entry.prev_hash, entry.hash)
    except (ValueError, TypeError):
        return None
    return entry if ours and all(isinstance(text, str) for text in texts) else None
