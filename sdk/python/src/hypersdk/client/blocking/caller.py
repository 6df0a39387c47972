# Generated from aio/caller.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""How a sub-client calls: one deadline over all tries, retries, errors of the tree, streams that can be resumed.

Not here: which calls exist. Each service's file says that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from hypersdk.client.calls import REQUEST_ID_HEADER, Backoff, CallOptions, tag
from hypersdk.client.translate import from_rpc_error
from hypersdk.errors import DeadlineExceeded, HyperError, OutOfRange, Unavailable


class _Revisioned(Protocol):
    @property
    def revision(self) -> int: ...


Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")
Change = TypeVar("Change", bound=_Revisioned)


class Caller:
    """Calls one daemon over one channel."""

    def __init__(self, target: str, options: CallOptions) -> None:
        self.target = target
        self.options = options

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None = None,
    ) -> Response:
        """The answer, within `timeout_s` seconds over all tries. Raises the errors of the tree."""
        request_id = tag(request)
        deadline = time.monotonic() + (self.options.timeout_s if timeout_s is None else timeout_s)
        backoff = Backoff(self.options)
        while True:
            remaining = max(0.001, deadline - time.monotonic())
            try:
                return method(request, timeout=remaining, metadata=((REQUEST_ID_HEADER, request_id),))
            except grpc.RpcError as exc:
                error = from_rpc_error(exc, target=self.target, request_id=request_id)
                wait = backoff.next_try_s(error, deadline - time.monotonic())
                if wait is None:
                    raise error from exc
            time.sleep(wait)

    def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Iterable[Request],
        timeout_s: float,
        request_id: str,
    ) -> Response:
        """The answer to a stream of requests, whose first has `request_id`, within `timeout_s` seconds, without
        retries. Raises the errors of the tree."""
        try:
            return method(iter(requests), timeout=timeout_s, metadata=((REQUEST_ID_HEADER, request_id),))
        except grpc.RpcError as exc:
            raise from_rpc_error(exc, target=self.target, request_id=request_id) from exc

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None = None,
    ) -> Generator[Response, None, None]:
        """The messages of one stream as they come, without retries. Closing the iterator cancels the call."""
        request_id = tag(request)
        call: Any = method(request, timeout=timeout_s, metadata=((REQUEST_ID_HEADER, request_id),))
        try:
            yield from call
        except grpc.RpcError as exc:
            raise from_rpc_error(exc, target=self.target, request_id=request_id) from exc
        finally:
            call.cancel()

    def watch(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Change],
        request_since: Callable[[int], Request],
        since: int,
        *,
        relist: bool,
        timeout_s: float | None = None,
    ) -> Generator[Change, None, None]:
        """The messages of a watch, reopened from the last revision seen whenever it breaks. `relist`: start over
        from 0 when that revision is no longer kept, instead of raising OutOfRange. Raises Unavailable when nobody
        answered for `reconnect_s`, DeadlineExceeded after `timeout_s` in all."""
        revision = since
        end = None if timeout_s is None else time.monotonic() + timeout_s
        backoff = Backoff(self.options)
        heard = time.monotonic()
        while True:
            failure: HyperError = Unavailable("the daemon ended the stream", reason="STREAM_ENDED")
            leg = self.options.watch_leg_s
            if end is not None:
                leg = min(leg, end - time.monotonic())
                if leg <= 0:
                    raise DeadlineExceeded(
                        f"the wait of {timeout_s:g} s is over; what was waited for goes on", reason="WAIT_TIMED_OUT"
                    )
            try:
                with closing(self.stream(method, request_since(revision), leg)) as messages:
                    for message in messages:
                        revision = max(revision, message.revision)
                        heard = time.monotonic()
                        backoff.reset()
                        yield message
            except DeadlineExceeded:
                continue
            except OutOfRange:
                if not relist or revision == 0:
                    raise
                revision = 0
                continue
            except Unavailable as exc:
                failure = exc
            if time.monotonic() - heard > self.options.reconnect_s:
                raise failure
            time.sleep(backoff.wait_s(failure))
