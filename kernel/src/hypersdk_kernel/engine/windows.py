"""Windows at work: a gate that holds what may not run now, and the end of what runs when its window closes.

The windows are few and are kept in memory, as the store has them; every change, this kernel's or another's, comes
through the event log and has all that waits looked at again.
"""

from __future__ import annotations

from collections.abc import Callable

from hypersdk.errors import FailedPrecondition, HyperError, NotFound, Unavailable

from hypersdk_kernel.engine.documents import Documents
from hypersdk_kernel.engine.following import Follower
from hypersdk_kernel.engine.gates import Hold
from hypersdk_kernel.engine.overrun import Stop
from hypersdk_kernel.engine.timegate import moment
from hypersdk_kernel.model.holiday import holiday
from hypersdk_kernel.model.job import Job
from hypersdk_kernel.model.window import Holidays, OnClose, Phase, Window, phase


class WindowBook:
    """Its life: `load`, then it follows `notice`. A Gate and a Closing. `changed` is called after each change."""

    def __init__(self, windows: Documents[Window], holidays: Holidays = holiday) -> None:
        self.changed: list[Callable[[], None]] = []
        self._windows = windows
        self._holidays = holidays
        self._by_id: dict[str, Window] = {}
        self._phases: dict[str, tuple[int, float, Phase]] = {}
        """By id: the window's revision, since when, and the phase that holds until its end."""
        self._follower = Follower(self.load, "window.")
        self.notice = self._follower.notice
        self.settled = self._follower.settled

    async def load(self) -> None:
        self._by_id = {window.id: window for window in await self._windows.every()}
        self._phases.clear()
        for listener in self.changed:
            listener()

    def get(self, window_id: str) -> Window | None:
        return self._by_id.get(window_id)

    async def known(self, window_id: str) -> bool:
        """Is there such a window? Also right about one that was created a moment ago, here or through another
        kernel."""
        if window_id in self._by_id:
            return True
        try:
            await self._windows.get(window_id)
        except NotFound:
            return False
        await self.load()
        return True

    def phase_of(self, window: Window, now: float) -> Phase:
        """As model.window.phase, remembered for as long as it holds."""
        known = self._phases.get(window.id)
        if known is not None:
            revision, since, found = known
            if revision == window.revision and since <= now and (found.until is None or now < found.until):
                return found
        found = phase(window, now, self._holidays)
        self._phases[window.id] = (window.revision, now, found)
        return found

    def judge(self, job: Job, now: float) -> Hold | None:
        """Gate: held while its window is closed, or is not there."""
        if not job.window:
            return None
        window = self._by_id.get(job.window)
        if window is None:
            return Hold("WINDOW_MISSING", f"its window windows/{job.window} does not exist", None, "create that window")
        found = self.phase_of(window, now)
        if found.open:
            return None
        why = f": {found.why}" if found.why else ""
        until = f" until {moment(found.until)}" if found.until is not None else ", and does not open in the next year"
        return Hold(
            "WINDOW_CLOSED", f"{window.name} is closed{until}{why}", found.until, "wait, or open the window wider"
        )

    def forget(self, job_id: str) -> None:
        """Nothing is kept for a job."""

    def closing(self, job: Job, now: float) -> tuple[float, Stop] | None:
        """Closing: when the window of a running job closes, unless it may finish."""
        window = self._by_id.get(job.window) if job.window else None
        if window is None or window.on_close is OnClose.FINISH:
            return None
        found = self.phase_of(window, now)
        when = found.until if found.open else now
        return None if when is None else (when, _stop(window))

    def reopening(self, window_id: str, now: float) -> float | None:
        """When a closed window opens; `now` when it is open; None when that is not known."""
        window = self._by_id.get(window_id)
        if window is None:
            return None
        found = self.phase_of(window, now)
        return now if found.open else found.until


def _stop(window: Window) -> Stop:
    if window.on_close is OnClose.CANCEL:
        error: HyperError = FailedPrecondition(f"{window.name} closed while it ran", reason="WINDOW_CLOSED")
        return Stop("cancel", error)
    error = Unavailable(f"{window.name} closed; it goes on when that opens again", reason="WINDOW_CLOSED")
    return Stop("pause" if window.on_close is OnClose.PAUSE else "wait", error)
