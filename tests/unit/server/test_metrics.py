"""Metrics: what is counted, that it parses, that nobody's names are in it, and the listener's limits."""

import asyncio

import pytest
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.server.metrics import CONTENT_TYPE, Figures, HostFigures, Metrics
from hypersdk_kernel.server.metrics_http import MAX_CONNECTIONS, MetricsServer
from prometheus_client.parser import text_string_to_metric_families

FIGURES = Figures(
    {"queued": 3, "running": 1}, 12.5, 1, 4, 2, 5, 77, [HostFigures("webhook", True, 1, 40, 2, 9 << 20)]
)


async def figures():
    return FIGURES


async def scraped(metrics):
    text = (await metrics.render(figures)).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def job_event(revision, type_, time, **job):
    state = type_.partition(".")[2]
    job = {"id": "nightly-secret-name", "uid": "u", "task": "export", "spec": {}, "state": state, "create_time": 1.0,
           "update_time": time, **job}  # fmt: skip
    return Event(revision, time, type_, "jobs/nightly-secret-name", "runner", {"job": job})


async def test_a_job_is_counted_from_queue_to_end():
    metrics = Metrics()
    metrics.publish([job_event(1, "job.created", 100.0, state="queued")])
    metrics.publish([job_event(2, "job.running", 100.2, start_time=100.2)])
    progress = {"bytes_read": 1000, "bytes_written": 400}
    metrics.publish([job_event(3, "job.retrying", 105.0, start_time=100.2, progress=progress)])
    metrics.publish([job_event(4, "job.queued", 106.0, start_time=100.2)])
    metrics.publish([job_event(5, "job.running", 106.5, start_time=100.2)])
    metrics.publish([job_event(6, "job.succeeded", 110.2, start_time=100.2, progress=progress)])
    found = await scraped(metrics)
    assert found["hypersdk_jobs_ended_total", "export", "succeeded"] == 1
    assert found["hypersdk_job_attempts_total", "export"] == 2
    assert found["hypersdk_job_dispatch_wait_seconds_sum",] == pytest.approx(0.7)
    assert found["hypersdk_job_duration_seconds_sum", "export"] == pytest.approx(10.0)
    assert found["hypersdk_job_moved_bytes_total", "export", "read"] == 2000
    assert found["hypersdk_events_total",] == 6
    assert metrics._queued == {}


async def test_resuming_a_paused_job_is_no_attempt():
    metrics = Metrics()
    metrics.publish([job_event(1, "job.created", 1.0, state="queued"), job_event(2, "job.running", 2.0)])
    metrics.publish([job_event(3, "job.paused", 3.0), job_event(4, "job.running", 4.0)])
    assert (await scraped(metrics))["hypersdk_job_attempts_total", "export"] == 1


async def test_calls_are_counted_by_method_and_code():
    metrics = Metrics()
    meter = metrics.method("/hypersdk.api.jobs.v1.JobService/GetJob")
    meter.answered(0.002)
    meter.answered(0.004)
    meter.refused("NOT_FOUND", 0.001)
    found = await scraped(metrics)
    path = "/hypersdk.api.jobs.v1.JobService/GetJob"
    assert found["hypersdk_calls_total", path, "OK"] == 2
    assert found["hypersdk_calls_total", path, "NOT_FOUND"] == 1
    assert found["hypersdk_call_duration_seconds_count", path] == 3


async def test_gauges_are_read_at_the_scrape_and_what_is_gone_is_gone():
    metrics = Metrics()
    found = await scraped(metrics)
    assert found["hypersdk_jobs", "queued"] == 3
    assert found["hypersdk_jobs", "failed"] == 0
    assert found["hypersdk_queue_oldest_age_seconds",] == 12.5
    assert found["hypersdk_host_restarts", "webhook"] == 1

    async def without():
        return Figures({}, 0.0, 0, 4, 0, 0, 77, [])

    text = (await metrics.render(without)).decode()
    assert "webhook" not in text


async def test_swaps_deliveries_and_commits_are_counted():
    metrics = Metrics()
    metrics.publish([Event(1, 1.0, "plugin.rolled_back", "plugins/x/generations/2", "kernel", {})])
    metrics.delivery("dead")
    metrics.commit(16, 0.004)
    found = await scraped(metrics)
    assert found["hypersdk_plugin_swaps_total", "rolled_back"] == 1
    assert found["hypersdk_deliveries_total", "dead"] == 1
    assert found["hypersdk_store_commit_group_size_sum",] == 16


async def test_names_follow_the_rules_and_nobodys_are_told():
    """What `promtool check metrics` asks: help texts, base units, `_total` on counters and on nothing else."""
    metrics = Metrics()
    metrics.publish([job_event(1, "job.created", 1.0, state="queued"), job_event(2, "job.running", 2.0)])
    text = (await metrics.render(figures)).decode()
    assert "nightly-secret-name" not in text
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):
            continue
        assert family.name.startswith("hypersdk_")
        assert family.documentation.endswith(".") or family.name == "hypersdk_build_info"
        assert not any(unit in family.name for unit in ("_ms", "milliseconds", "_kb", "_mib", "percent"))
        totals = [sample for sample in family.samples if sample.name.endswith("_total")]
        assert bool(totals) == (family.type == "counter" and bool(family.samples))


async def test_the_jobs_that_are_timed_are_bounded(monkeypatch):
    from hypersdk_kernel.server import metrics as module

    monkeypatch.setattr(module, "_JOBS_TIMED", 10)
    metrics = Metrics()
    for index in range(50):
        metrics.publish([job_event(index + 1, "job.created", 1.0, state="queued", id=f"j-{index}")])
    assert len(metrics._queued) == 10


# The listener


@pytest.fixture
async def ask():
    metrics = Metrics()
    server = MetricsServer(lambda: metrics.render(figures), CONTENT_TYPE)
    port = await server.start(0)

    async def send(text, *, end=True):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text.encode())
        await writer.drain()
        if not end:
            return reader, writer
        answer = await reader.read()
        writer.close()
        return answer.decode()

    send.port, send.server = port, server
    yield send
    await server.close()


async def test_a_scrape_is_answered(ask):
    answer = await ask(f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\n\r\n")
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert CONTENT_TYPE in head
    assert len(list(text_string_to_metric_families(body))) > 20


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
        ("GET /metrics HTTP/1.1\r\nHost: localhost.evil.example:9\r\n\r\n", "403"),
        ("GET /metrics HTTP/1.1\r\n\r\n", "403"),
        ("\r\n\r\n", "403"),
    ],
)
async def test_anything_else_is_refused(ask, request_text, status):
    assert (await ask(request_text)).startswith(f"HTTP/1.1 {status}")


async def test_a_request_without_end_is_dropped(ask):
    assert await ask("GET /metrics HTTP/1.1\r\nX: " + "a" * 20_000) == ""


async def test_too_many_at_once_are_not_answered(ask):
    waiting = [await ask("GET ", end=False) for _ in range(MAX_CONNECTIONS)]
    async with asyncio.timeout(10):
        while len(ask.server._answering) < MAX_CONNECTIONS:
            await asyncio.sleep(0.005)
    try:
        answer = await ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    except ConnectionResetError:  # it was closed before it had read the request
        answer = ""
    assert answer == "" or answer.startswith("HTTP/1.1 503")
    for _, writer in waiting:
        writer.close()
