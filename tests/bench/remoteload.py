"""What stands in for agents in the case `remote-runners`: `python -m tests.bench.remoteload` holds many connections to
a listener of remote runners, in one process of its own, and says on each what an agent says. Its input is one line of
JSON, then a line to begin and one to end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
import sys
import time
from typing import Any

from hypersdk.wire.frames import Decoder, encode

CHECKPOINT = base64.b64encode(os.urandom(2048)).decode()
PROGRESS = {
    "phase": "copying", "bytes_done": 1 << 30, "bytes_total": 1 << 40, "bytes_read": 1 << 30, "bytes_written": 1 << 29,
    "message": "", "details": {},
}  # fmt: skip


class Agent:
    """One connection: progress and a batch of its records at the pace, pings answered, a checkpoint every minute."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._decoder = reader, writer, Decoder()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._id = self._seq = 0
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while data := await self._reader.read(1 << 16):
            for message in self._decoder.feed(data):
                if "method" in message:
                    if message.get("id") is not None:
                        self._writer.write(encode({"jsonrpc": "2.0", "id": message["id"], "result": {}}))
                else:
                    self._answers.pop(message["id"]).set_result(message)

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        self._id += 1
        answer = self._answers[self._id] = asyncio.get_running_loop().create_future()
        self._writer.write(encode({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}))
        answered = await answer
        if "error" in answered:
            raise RuntimeError(answered["error"])
        return answered["result"]

    async def record(self, count: int = 1, **fields: Any) -> None:
        first, self._seq = self._seq + 1, self._seq + count
        numbers = range(first, first + count)
        await self.ask("records", {"records": [{"seq": n, "time": time.time(), **fields} for n in numbers]})

    async def checkpoint(self) -> None:
        raw = base64.b64decode(CHECKPOINT)
        digest = hashlib.sha256(raw).hexdigest()
        await self.ask("checkpoint", {"offset": 0, "total": len(raw), "sha256": digest, "data": CHECKPOINT})
        await self.record(type="checkpointed", bytes=len(raw))

    async def work(self, seconds: int, pace_s: int, share: float) -> None:
        """`share`, 0 to 1, is where in the pace and in the minute this one begins."""
        began = time.monotonic()
        await asyncio.sleep(share * pace_s)
        for second in range(0, seconds, pace_s):
            frame = {"jsonrpc": "2.0", "method": "progress", "params": {**PROGRESS, "bytes_done": second << 20}}
            self._writer.write(encode(frame))
            await self.record(max(1, pace_s // 2), type="progress", **PROGRESS)
            if int(share * 60) // pace_s == second // pace_s:
                await self.checkpoint()
            await asyncio.sleep(max(0.0, began + second + pace_s * (1 + share) - time.monotonic()))


async def main() -> None:
    told = json.loads(sys.stdin.readline())
    host, port = told["address"].rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=told["ca"])
    agents = []
    gate = asyncio.Semaphore(20)

    async def connect(identity: dict[str, str]) -> None:
        context.load_cert_chain(identity["file"])
        async with gate:
            agent = Agent(*await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost"))
            await agent.ask("hello", {"started": True})
        agents.append(agent)

    for identity in told["identities"]:  # one after the other: the certificate belongs to the context
        await connect(identity)
    print("connected", flush=True)
    sys.stdin.readline()
    await asyncio.gather(
        *(agent.work(told["seconds"], told["pace_s"], n / len(agents)) for n, agent in enumerate(agents))
    )
    print("worked", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(agent.record(type="finished", status="succeeded", result={}) for agent in agents))
    print("finished", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
