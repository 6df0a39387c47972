"""Clients that call a plugin without pause while it is swapped, and judge every answer.

The calls go through the public gRPC API with bare stubs: nothing here retries. An answer is right when its version
could have been active at some moment of the call: from when a swap to it was asked for, until the next one returned.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from hypersdk.api.formats.v1 import formats_pb2, formats_pb2_grpc
from hypersdk.client import Client

from .wheels import make_wheel

PLUGIN = "plugins/format-swapped"
SLOW_CODE = """
import time

from hypersdk.plugin.image_format import ImageFormat


class Plugin(ImageFormat):
    name = "@component"

    def probe(self, head, tail, size):
        return 0

    def open(self, file, options=None):
        raise NotImplementedError

    def create(self, file, size, options=None, resume=None):
        raise NotImplementedError

    def create_options(self):
        time.sleep(0.005)
        return {"version": "@version"}
"""
ONCE_ONLY = {
    "manifest_version": 1, "name": "hypersdk-format-swapped", "api_version": "1.0", "summary": "Not to be repeated",
    "components": {
        "format/swapped": {"concurrency": "parallel", "methods": {"GetFormat": {"idempotent": False}}},
    },
}  # fmt: skip
"""With this manifest the kernel repeats nothing, so that repetition cannot hide what a swap loses."""

UNWELL = {
    "manifest": ONCE_ONLY | {"components": {"format/swapped": {"concurrency": "parallel"}, "pricing/unwell": {}}},
    "files": {
        "hypersdk_format_swapped-2.0.dist-info/entry_points.txt": "[hypersdk.format]\nswapped = "
        "hypersdk_format_swapped:Plugin\n[hypersdk.pricing]\nunwell = hypersdk_format_swapped.prices:Unwell\n",
        "hypersdk_format_swapped/prices.py": "from hypersdk.plugin.pricing import PriceTable\n\n\n"
        "class Unwell(PriceTable):\n    default_region = ''\n\n    def rows(self):\n        raise KeyError('rows')\n",
    },
}  # fmt: skip
"""A wheel of version 2.0 whose second component answers Health with a defect."""
TASK_CODE = """
import os
import time

from hypersdk.plugin import Task


class Plugin(Task):
    def run(self, context):
        while not os.path.exists(context.spec["until"]):
            context.check()
            time.sleep(0.02)
        import hypersdk_task_wait.late

        return {"version": "@version", "late": hypersdk_task_wait.late.VERSION}
"""


def waiting_wheel(folder: Path, version: str) -> Path:
    """A task `wait` that runs until the file `until` of its spec exists, and then imports more of its version."""
    schema = {"type": "object", "required": ["until"], "properties": {"until": {"type": "string"}}}
    manifest = {
        "manifest_version": 1, "name": "hypersdk-task-wait", "api_version": "1.0",
        "components": {"task/wait": {"spec_schema": schema}},
    }  # fmt: skip
    return make_wheel(
        folder, version, distribution="hypersdk-task-wait", kind="task", component="wait", code=TASK_CODE,
        manifest=manifest, files={"hypersdk_task_wait/late.py": f"VERSION = {version!r}"},
    )  # fmt: skip


def install_versions(client: Client, folder: Path, versions: Sequence[str], **kw: Any) -> None:
    """Versions of the plugin, the first of which answers. `kw`: see make_wheel."""
    for version in versions:
        client.plugins.upload(make_wheel(folder, version, **kw))
    client.plugins.activate(PLUGIN, version=versions[0])


@dataclass
class Span:
    """When a version could have answered: monotonic seconds."""

    version: str
    start: float
    end: float = float("inf")


@dataclass
class Load:
    """The clients and what they saw. Seconds."""

    address: str
    timeout_s: float = 20.0
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    _running: bool = True

    def active(self, version: str) -> None:
        """Before the first call: what answers now."""
        self.spans.append(Span(version, 0.0))

    def swap(self, client: Client, version: str) -> None:
        """Activate `version`; afterwards only it may answer."""
        last, fresh = self.spans[-1], Span(version, time.monotonic())
        self.spans.append(fresh)
        client.plugins.activate(PLUGIN, version=version)
        last.end = time.monotonic()

    def stop(self) -> None:
        self._running = False

    def call_until_stopped(self) -> None:
        """One client thread."""
        with grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = formats_pb2_grpc.FormatServiceStub(channel)
            request = formats_pb2.GetFormatRequest(name="formats/swapped")
            while self._running:
                start = time.monotonic()
                try:
                    version = stub.GetFormat(request, timeout=self.timeout_s).create_options["version"]
                except grpc.RpcError as exc:
                    self.failures.append(f"{exc.code()}: {exc.details()}")
                    continue
                end = time.monotonic()
                self.seconds.append(end - start)
                if not any(s.version == version and s.start <= end and s.end >= start for s in tuple(self.spans)):
                    self.wrong.append(version)


@contextmanager
def under_load(address: str, version: str, threads: int = 16, timeout_s: float = 20.0) -> Iterator[Load]:
    """`threads` clients call until the end of the context, by which all their answers are judged."""
    load = Load(address, timeout_s)
    load.active(version)
    clients = [threading.Thread(target=load.call_until_stopped) for _ in range(threads)]
    for client in clients:
        client.start()
    try:
        yield load
    finally:
        load.stop()
        for client in clients:
            client.join()
