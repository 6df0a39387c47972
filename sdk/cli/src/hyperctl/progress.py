"""One line of progress: percent, moved of total, rate, time left.

On a terminal the line is redrawn in place at most 10 times a second; elsewhere a new line comes every 10 s. Plain
text on stderr and no rich: the import would cost as much as a small conversion. What is done is not known
here; callers say it.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from hyperctl.units import format_bytes, format_duration

_REDRAW_S = 0.1
_LINE_S = 10.0
_WINDOW_S = 5.0


class ProgressLine:
    """Life: created, `update` as often as one likes, `finish` once. Not thread-safe."""

    def __init__(
        self,
        label: str,
        *,
        stream: TextIO | None = None,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._enabled = enabled
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._samples: deque[tuple[float, int]] = deque()
        self._shown_at = clock() if not self._terminal else float("-inf")
        self._width = 0

    def update(self, done: int, total: int, *, phase: str = "", saved: int = 0) -> None:
        """`done` of `total` bytes (-1: unknown); `saved` bytes that did not have to be moved."""
        now = self._clock()
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW_S:
            self._samples.popleft()
        if not self._enabled or now - self._shown_at < (_REDRAW_S if self._terminal else _LINE_S):
            return
        self._shown_at = now
        self._show(self._text(done, total, phase, saved))

    def finish(self, text: str = "") -> None:
        """Erase the line on a terminal; print `text` instead, if any."""
        if self._enabled and self._terminal and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        if self._enabled and text:
            self._stream.write(text + "\n")
        self._stream.flush()

    def rate(self) -> float:
        """Bytes per second over the last seconds."""
        if len(self._samples) < 2:
            return 0.0
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def _text(self, done: int, total: int, phase: str, saved: int) -> str:
        rate = self.rate()
        parts = [self._label, *([phase] if phase else [])]
        if total > 0:
            parts.append(f"{100 * min(done, total) / total:.1f}%")
        parts.append(f"{format_bytes(done)} of {format_bytes(total)}" if total >= 0 else format_bytes(done))
        if rate > 0:
            parts.append(f"{format_bytes(rate)}/s")
            if total > done:
                parts.append(f"{format_duration((total - done) / rate)} left")
        if saved > 0:
            parts.append(f"{format_bytes(saved)} saved")
        return "  ".join(parts)

    def _show(self, text: str) -> None:
        if not self._terminal:
            self._stream.write(text + "\n")
        else:
            text = text[: max(20, _columns(self._stream) - 1)]
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        self._stream.flush()


def _columns(stream: TextIO) -> int:
    """Width of the terminal. Not shutil's: importing that brings every compressor (8 ms)."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return 80
