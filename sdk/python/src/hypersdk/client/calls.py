"""Deadlines, retries and backoff: the figures, and the part of the rules that needs no channel.

What is retried: any unary call that the daemon answered with UNAVAILABLE or did not answer, within the call's deadline.
That is safe for reads by nature and for mutators because `tag` gives each a request_id, by which the kernel returns
the first answer to a repetition. Nothing else is retried here: other failures mean the same the second time.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass

from google.protobuf.message import Message

from hypersdk.errors import HyperError, Unavailable

REQUEST_ID_HEADER = "x-request-id"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How patient a client is. All in seconds.

    timeout_s        a unary call's deadline over all its tries, unless the call names its own
    tries            at most so many tries within it
    backoff_s        before the second try; doubled for each further one, jittered down to half
    backoff_max_s    no wait is longer, unless the server asks for it
    watch_leg_s      a watch is reopened from its revision this often, so that a silently dead peer is noticed
    reconnect_s      a watch gives up when nobody answered for so long (a daemon's restart takes less)
    """

    timeout_s: float = 30.0
    tries: int = 4
    backoff_s: float = 0.1
    backoff_max_s: float = 2.0
    watch_leg_s: float = 300.0
    reconnect_s: float = 60.0


class Backoff:
    """The waits between the tries of one call. Jittered, so that the clients of a restarted daemon do not all
    come back at once."""

    def __init__(self, options: CallOptions, rng: random.Random | None = None) -> None:
        self._options = options
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._failures = 0

    def reset(self) -> None:
        """The peer answered."""
        self._failures = 0

    def wait_s(self, error: HyperError | None = None) -> float:
        """Seconds to wait after one more failure; at least what the server asked for."""
        longest = min(self._options.backoff_max_s, self._options.backoff_s * 2**min(self._failures, 16))
        self._failures += 1
        asked = error.retry_after_s if error is not None else None
        return max(asked or 0.0, self._rng.uniform(longest / 2, longest))

    def next_try_s(self, error: HyperError, remaining_s: float) -> float | None:
        """Seconds until the next try of a unary call, or None when `error` is final."""
        if not isinstance(error, Unavailable) or self._failures + 1 >= self._options.tries:
            return None
        wait = self.wait_s(error)
        return wait if wait < remaining_s else None


def tag(request: Message) -> str:
    """The id of this request, put into its `request_id` if it is a mutator that has none yet. It goes along as a
    header too, so that the daemon's log and an error that a person sees name the same call."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name:
        return str(uuid.uuid4())
    given: str = getattr(request, "request_id")  # noqa: B009 - not a field of every Message
    if not given:
        given = str(uuid.uuid4())
        setattr(request, "request_id", given)  # noqa: B010
    return given
