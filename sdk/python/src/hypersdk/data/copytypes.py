"""What a copy is asked and what it tells: options, hooks, progress, result. Values only; `pipeline` does the work and
`images.compare` takes the same hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypersdk.data.digest import ContentDigest


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy is. `offset`: everything below it is in the sink. All in bytes; `bytes_read` and
    `bytes_written` count what was really moved, not runs of zeros."""

    offset: int
    bytes_total: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did. `seconds` of wall time, the sink's finish included; `sink`: what its `finish`
    returned."""

    bytes_read: int
    bytes_written: int
    seconds: float
    sink: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """threads             0: number of usable cores
    piece_bytes         unit of work; rounded up to the granularity of source and sink, with a digest to its chunks
    read_ahead          pieces in flight at most; 0: 2 × threads + 2. Never more than 64 MiB together, two at least
    detect_zeros        DATA that turns out to be all zeros, in units of at least 64 KiB, is not written
    resume_offset       everything before it is in the sink already, bytes
    checkpoint_bytes    a checkpoint is due after so many moved bytes, 0: never
    checkpoint_seconds  … but not sooner after the last one
    """

    threads: int = 0
    piece_bytes: int = 1 << 20
    read_ahead: int = 0
    detect_zeros: bool = True
    resume_offset: int = 0
    checkpoint_bytes: int = 4 << 20
    checkpoint_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class CopyHooks:
    """All called on the thread that called `copy`, except `digest`, which the workers feed.

    progress    at most 10 times a second, and once at the end
    checkpoint  (offset, state): everything below offset is durable in the sink, state is what its `checkpoint` said
    check       between pieces; raises to cancel, blocks to pause
    throttle    after each piece, bytes moved
    digest      told of every piece and every run of zeros. On resume, what its state lacks below `resume_offset` is
                read again for it
    """

    progress: Callable[[CopyProgress], None] | None = None
    checkpoint: Callable[[int, dict[str, Any]], None] | None = None
    check: Callable[[], None] | None = None
    throttle: Callable[[int], None] | None = None
    digest: ContentDigest | None = None
