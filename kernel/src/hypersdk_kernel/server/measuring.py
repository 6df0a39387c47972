"""Hangs the metrics into a kernel's parts, and reads what a scrape wants of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.events.delivery import Deliveries
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.plugin import HostState
from hypersdk_kernel.server.metrics import CONTENT_TYPE, Figures, HostFigures, Metrics
from hypersdk_kernel.server.metrics_http import MetricsServer
from hypersdk_kernel.server.streams import Streams
from hypersdk_kernel.store import jobs as job_rows
from hypersdk_kernel.store.engine import Store


@dataclass(frozen=True, slots=True)
class Measured:
    """The parts that are asked at a scrape."""

    store: Store
    clock: Clock
    dispatcher: Dispatcher
    registry: Registry
    hosts: HostPool
    streams: Streams
    deliveries: Deliveries

    async def figures(self) -> Figures:
        def read(conn: Connection) -> tuple[dict[str, int], float | None]:
            return job_rows.counts(conn), job_rows.oldest_queued(conn)

        jobs, oldest = await self.store.read(read)
        return Figures(
            jobs=jobs,
            oldest_queued_s=0.0 if oldest is None else max(0.0, self.clock.now() - oldest),
            running=self.dispatcher.running,
            max_runners=self.dispatcher.settings.max_runners,
            streams=self.streams.count,
            subscriptions=self.deliveries.count,
            last_revision=self.store.last_revision,
            hosts=self._hosts(),
        )

    def _hosts(self) -> list[HostFigures]:
        found = []
        for plugin in self.registry.plugins():
            if plugin.active is None:
                continue
            status = self.hosts.status(plugin.active)
            found.append(
                HostFigures(
                    plugin.id, status.state is HostState.SERVING, status.restart_count, status.call_count,
                    status.error_count, status.resident_bytes,
                )
            )  # fmt: skip
        return found


def attach(metrics: Metrics, store: Store, deliveries: Deliveries) -> None:
    """Have them told to `metrics`."""
    store.on_group = metrics.commit
    store.on_commit.append(metrics.publish)
    deliveries.on_outcome.append(metrics.delivery)


def metrics_server(metrics: Metrics, measured: Measured) -> MetricsServer:
    return MetricsServer(lambda: metrics.render(measured.figures), CONTENT_TYPE)
