"""Remotes: the listener that agents connect to, and the attempts that are live on other machines.

TCP with TLS 1.3. Who comes without a certificate may say one thing: `enrol`, with an attempt's token, and is told one;
frames are short then, and few such connections are open at once. Whose certificate names a live attempt is served by
it. Anyone else is told that the attempt lives no more, and ends its runner. While this kernel is taking up what an
earlier one left, the answer is "not yet".

Not here: what an attempt does with what it is told (remoterunner).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from hypersdk.errors import Aborted, HyperError, PermissionDenied, Unavailable, Unsupported

from hypersdk_kernel.engine.executors import Executors
from hypersdk_kernel.engine.mirror import not_live
from hypersdk_kernel.engine.remotelink import RemoteLink
from hypersdk_kernel.engine.remoterunner import RemoteRunner, RemoteSettings
from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, Progress
from hypersdk_kernel.security.attempts import LIFETIME_S, AttemptAuthority, AttemptKey, attempt_of

log = structlog.get_logger(__name__)

PROTOCOL = 1
MAX_STRANGERS = 64
STRANGER_S = 15.0
REFUSED_S = 2.0
"""For the refusal to arrive, before the connection is closed."""
HANDSHAKE_S = 10.0
FASTEST_S, SLOWEST_S = 0.2, 10.0
SETTLING_S = 30.0
"""After the start of dispatching: attempts of an earlier kernel are all taken up by then."""


class Remotes:
    """Its life: made; `start`; the dispatcher asks for runners; `stop`. `address`: what agents are told to call."""

    def __init__(
        self,
        authority: AttemptAuthority,
        executors: Executors,
        clock: Clock,
        settings: RemoteSettings,
        address: str = "",
    ) -> None:
        self.address = address
        self.settings = settings
        self._authority = authority
        self._executors = executors
        self._clock = clock
        self._live: dict[AttemptKey, RemoteRunner] = {}
        self._server: asyncio.Server | None = None
        self._links: set[RemoteLink] = set()
        self._strangers = 0
        self._settled_at: float | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; returns `host:port`."""
        self._server = await asyncio.start_server(
            self._connected, host, port, ssl=self._authority.server_context(), ssl_handshake_timeout=HANDSHAKE_S,
            limit=1 << 20,
        )  # fmt: skip
        bound = self._server.sockets[0].getsockname()
        own = f"{host}:{bound[1]}"
        self.address = self.address or own
        return own

    async def stop(self) -> None:
        """Agents notice, and call again."""
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.close()

    def began(self) -> None:
        """Dispatching has begun: what an earlier kernel left is being taken up."""
        self._settled_at = self._clock.monotonic() + SETTLING_S

    def ended(self) -> None:
        """Another kernel leads, or none."""
        self._settled_at = None

    @property
    def running(self) -> int:
        return len(self._live)

    def pace(self) -> float:
        """Seconds between two reports of progress of one attempt: some 1,000 a second are taken in all."""
        return min(SLOWEST_S, max(FASTEST_S, len(self._live) / 1000))

    def runner(
        self,
        job: Job,
        number: int,
        rundir: RunDir,
        make_spec: Callable[[], Awaitable[dict[str, Any]]],
        on_progress: Callable[[Progress], None],
    ) -> RemoteRunner:
        def order() -> str:
            return self._order(job.uid, number)

        return RemoteRunner(
            job, number, rundir, self._clock, self._executors, self.settings,
            order=order, make_spec=make_spec, live=self._mark, pace=self.pace, on_progress=on_progress,
        )  # fmt: skip

    def _order(self, uid: str, number: int) -> str:
        return json.dumps({
            "protocol": PROTOCOL, "address": self.address, "ca": self._authority.ca_pem, "uid": uid, "attempt": number,
            "token": self._authority.token((uid, number)), "work_dir": self.settings.work_dir,
            "orphan_s": self.settings.orphan_s,
        })  # fmt: skip

    def _mark(self, runner: RemoteRunner, live: bool) -> None:
        key = (runner.uid, runner.number)
        if live:
            self._live[key] = runner
        elif self._live.get(key) is runner:
            del self._live[key]

    def _runner(self, attempt: AttemptKey) -> RemoteRunner:
        runner = self._live.get(attempt)
        if runner is not None:
            return runner
        if self._settled_at is None or self._clock.monotonic() < self._settled_at:
            raise Unavailable("this kernel does not know its attempts yet; call again", reason="ATTEMPT_NOT_READY")
        raise not_live(attempt[1])

    # -- connections -----------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        attempt = attempt_of(tls.getpeercert() if tls is not None else None)
        if attempt is None:
            await self._stranger(reader, writer)
            return
        key = attempt

        async def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
            try:
                runner = self._runner(key)
            except Aborted:
                asyncio.get_running_loop().call_later(REFUSED_S, link.close)
                raise
            if method == "renew":
                return await self._certificate(key)
            return await runner.serve(link, method, params)

        link = RemoteLink(reader, writer, answer, trusted=True)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            runner = self._live.get(key)
            if runner is not None:
                runner.gone(link)

    async def _stranger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._strangers >= MAX_STRANGERS:
            writer.close()
            return
        self._strangers += 1
        link = RemoteLink(reader, writer, self._enrol, trusted=False)
        self._links.add(link)
        try:
            await asyncio.wait_for(link.run(), STRANGER_S)
        except TimeoutError:
            pass  # it had its time
        finally:
            self._strangers -= 1
            self._links.discard(link)
            link.close()

    async def _enrol(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method != "enrol":
            raise Unsupported("without a certificate only enrol is answered", reason="METHOD_UNKNOWN")
        uid, number, token = params.get("uid"), params.get("attempt"), params.get("token")
        known = isinstance(uid, str) and isinstance(number, int) and isinstance(token, str)
        if not known or not self._authority.is_token((str(uid), int(number or 0)), str(token)):
            log.warning("enrolment_refused", why="wrong token")
            raise PermissionDenied("this token enrols nobody", reason="ENROLMENT_REFUSED")
        attempt = (str(uid), int(number or 0))
        runner = self._runner(attempt)
        if not await asyncio.to_thread(runner.mirror.enrol):
            log.error("enrolment_refused", job=runner.job_id, attempt=runner.number, why="the token was used before")
            raise PermissionDenied("this token was used before", reason="ENROLMENT_REFUSED")
        try:
            return await self._certificate(attempt)
        except HyperError:
            log.exception("enrolment_failed", job=runner.job_id)
            raise

    async def _certificate(self, attempt: AttemptKey) -> dict[str, Any]:
        made = await asyncio.to_thread(self._authority.issue, attempt, self._clock.now())
        return {"certificate": made.certificate, "key": made.key, "lifetime_s": LIFETIME_S}
