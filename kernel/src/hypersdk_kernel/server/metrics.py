"""Prometheus metrics of one kernel. Made only when `metrics_port` is set: without it nothing is counted and
prometheus_client is not imported.

Most of it is read off what the kernel tells anyway: the events of each commit (jobs, swaps), the deliveries' outcomes,
and at a scrape the store's and the hosts' own figures. In the way of every call is one MethodMeter, looked up once a
method and not once a call.

Label values are names of methods, tasks, plugins, states and codes: what is installed, and nothing that a client can
make up. No metric names a job, a connection, a machine or a person.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hypersdk_kernel import __version__
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobState, Progress
from hypersdk_kernel.store import codec

CONTENT_TYPE = CONTENT_TYPE_LATEST
_CALL_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_COMMIT_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.25, 1.0, 5.0)
_GROUP = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_WAIT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)
_JOB_S = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_JOBS_TIMED = 100_000
"""Jobs whose time in the queue is measured at once: some 10 MiB."""
_ENDED = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
_SWAPS = {"plugin.activated": "activated", "plugin.rolled_back": "rolled_back", "plugin.failed": "failed"}


@dataclass(frozen=True, slots=True)
class HostFigures:
    plugin: str
    serving: bool
    restarts: int
    calls: int
    errors: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a scrape reads. `oldest_queued_s`: age of the queued job that waits longest, 0 when none does."""

    jobs: Mapping[str, int]
    oldest_queued_s: float
    running: int
    max_runners: int
    streams: int
    subscriptions: int
    last_revision: int
    hosts: Sequence[HostFigures]


class MethodMeter:
    """One method's calls. Lists and a bisection instead of prometheus_client's own histogram: 0.5 µs a call instead of
    7. On the loop, as the scrape is, so nothing is locked."""

    __slots__ = ("buckets", "codes", "path", "seconds")

    def __init__(self, path: str) -> None:
        self.path = path
        self.codes = {"OK": 0}
        self.buckets = [0] * (len(_CALL_S) + 1)
        self.seconds = 0.0

    def answered(self, seconds: float) -> None:
        self.codes["OK"] += 1
        self.buckets[bisect_left(_CALL_S, seconds)] += 1
        self.seconds += seconds

    def refused(self, code: str, seconds: float) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(_CALL_S, seconds)] += 1
        self.seconds += seconds


class _Calls(Collector):
    """What the meters have counted, for a scrape."""

    def __init__(self) -> None:
        self.meters: dict[str, MethodMeter] = {}

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "hypersdk_calls", "Calls answered, by method and status code.", labels=("method", "code")
        )
        times = HistogramMetricFamily(
            "hypersdk_call_duration_seconds", "Time to answer a unary call.", labels=("method",)
        )
        bounds = [*map(str, _CALL_S), "+Inf"]
        for meter in self.meters.values():
            if not any(meter.buckets):
                continue
            for code, count in meter.codes.items():
                calls.add_metric((meter.path, code), count)
            up_to = list(accumulate(meter.buckets))
            times.add_metric((meter.path,), list(zip(bounds, up_to, strict=True)), meter.seconds)
        yield calls
        yield times


class Metrics:
    """All of a kernel's. `commit` is called in the store's writer thread, the rest on the loop."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"hypersdk_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"hypersdk_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"hypersdk_{name}", text, labels, buckets=buckets, registry=registry)

        self._calls = _Calls()
        registry.register(self._calls)
        self._ended = counter("jobs_ended_total", "Jobs that reached a terminal state.", "task", "state")
        self._attempts = counter("job_attempts_total", "Attempts started.", "task")
        self._job_s = histogram("job_duration_seconds", "From a job's first attempt to its end.", _JOB_S, "task")
        self._wait_s = histogram("job_dispatch_wait_seconds", "From queued to started.", _WAIT_S)
        self._bytes = counter("job_moved_bytes_total", "Bytes moved by attempts that ended.", "task", "direction")
        self._commit_s = histogram("store_commit_duration_seconds", "Time of one group commit.", _COMMIT_S)
        self._group = histogram("store_commit_group_size", "Writes in one group commit.", _GROUP)
        self._deliveries = counter("deliveries_total", "Notifications tried: delivered, retried or dead.", "outcome")
        self._swaps = counter("plugin_swaps_total", "Swaps of plugins, by their end.", "outcome")
        self._events = counter("events_total", "Events written to the log.")
        self._jobs_now = gauge("jobs", "Jobs in the store, by state.", "state")
        self._oldest = gauge("queue_oldest_age_seconds", "Age of the queued job that waits longest.")
        self._running = gauge("runners_running", "Attempts that move data now.")
        self._most = gauge("runners_limit", "Attempts that may move data at once.")
        self._streams = gauge("streams_open", "Watch and log streams open now.")
        self._subscriptions = gauge("subscriptions", "Subscriptions that are served here.")
        self._revision = gauge("last_revision", "Revision of the newest event.")
        self._host_up = gauge("host_up", "Whether a plugin's active generation has a serving host.", "plugin")
        self._host_restarts = gauge("host_restarts", "Crashes of the active generation's host.", "plugin")
        self._host_calls = gauge("host_calls", "Calls to the active generation's host.", "plugin")
        self._host_errors = gauge("host_errors", "Of these, answered with an error.", "plugin")
        self._host_memory = gauge("host_resident_memory_bytes", "Resident memory of the host's process.", "plugin")
        info = gauge("build_info", "1, labelled with the kernel's version.", "version")
        info.labels(__version__).set(1)
        self._queued: dict[str, float] = {}

    def method(self, path: str) -> MethodMeter:
        """`path`: `/package.Service/Method`."""
        return self._calls.meters.setdefault(path, MethodMeter(path))

    def commit(self, group_size: int, seconds: float) -> None:
        self._group.observe(group_size)
        self._commit_s.observe(seconds)

    def delivery(self, outcome: str) -> None:
        self._deliveries.labels(outcome).inc()

    def publish(self, events: Sequence[Event]) -> None:
        """Events that are durable."""
        self._events.inc(len(events))
        for event in events:
            outcome = _SWAPS.get(event.type)
            if outcome is not None:
                self._swaps.labels(outcome).inc()
            job = codec.job_of(event.payload) if event.type.startswith("job.") else None
            if job is not None:
                self._job(event, job)

    def _job(self, event: Event, job: Job) -> None:
        task, job_id = job.task, job.id
        if job.state is JobState.QUEUED:
            if len(self._queued) < _JOBS_TIMED:
                self._queued.setdefault(job_id, event.time)
            return
        queued = self._queued.pop(job_id, None)
        if event.type == "job.running":
            if queued is not None:  # else it was resumed, or queued before this kernel started
                self._attempts.labels(task).inc()
                self._wait_s.observe(max(0.0, event.time - queued))
            return
        if event.type in _ENDED:
            self._ended.labels(task, event.type.partition(".")[2]).inc()
            if job.start_time is not None:
                self._job_s.labels(task).observe(max(0.0, event.time - job.start_time))
        if event.type in _ENDED or event.type == "job.retrying":
            moved = job.progress or Progress()
            for direction, count in (("read", moved.bytes_read), ("written", moved.bytes_written)):
                self._bytes.labels(task, direction).inc(max(0, count))

    async def render(self, read: Callable[[], Awaitable[Figures]]) -> bytes:
        """The text of a scrape."""
        figures = await read()
        for state in JobState:
            self._jobs_now.labels(state.value).set(figures.jobs.get(state.value, 0))
        for gauge, value in (
            (self._oldest, figures.oldest_queued_s), (self._running, figures.running),
            (self._most, figures.max_runners), (self._streams, figures.streams),
            (self._subscriptions, figures.subscriptions), (self._revision, figures.last_revision),
        ):  # fmt: skip
            gauge.set(value)
        by_plugin = (self._host_up, self._host_restarts, self._host_calls, self._host_errors, self._host_memory)
        for labelled in by_plugin:
            labelled.clear()  # a plugin that was uninstalled is gone from the scrape too
        for host in figures.hosts:
            values = (host.serving, host.restarts, host.calls, host.errors, host.resident_bytes)
            for labelled, value in zip(by_plugin, values, strict=True):
                labelled.labels(host.plugin).set(value)
        return generate_latest(self.registry)
