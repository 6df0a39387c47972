"""Traces: contexts, spans of jobs, and a collector that may be away."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypersdk.errors import InvalidArgument, Unavailable
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.model.tracecontext import TraceContext, of_job, parse
from hypersdk_kernel.server import otlp
from hypersdk_kernel.server.otlp import Exporter, Span
from hypersdk_kernel.server.tracing import Tracer, runner_spans
from hypersdk_kernel.store import codec
from hypothesis import given
from hypothesis import strategies as st

UID = "0f5c6c1e-7f0e-4d9b-9a35-2f6f0f1c6a10"


class Collector:
    def __init__(self, status=200):
        self.spans, self.status = [], status
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if collector.status == 200 and self.path == "/v1/traces":
                    for resource in body["resourceSpans"]:
                        for scope in resource["scopeSpans"]:
                            collector.spans += scope["spans"]
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


class Kept:
    def __init__(self):
        self.spans = []

    def add(self, span):
        self.spans.append(span)


def event(revision, type_, time, **fields):
    values = {"state": JobState(type_.partition(".")[2]), "create_time": 100.0, "update_time": time, **fields}
    job = Job("nightly", UID, "export", {}, **values)
    return Event(revision, time, type_, job.name, "runner", {"job": codec.job_to_json(job)})


async def test_a_job_is_one_trace_with_its_attempts_below(tmp_path):
    (tmp_path / "2").mkdir()
    record = {"seq": 2, "time": 110.0, "type": "span", "name": "run", "start": 107.0, "end": 109.0, "error": ""}
    (tmp_path / "2" / "journal.jsonl").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    kept = Kept()
    tracer = Tracer(kept, lambda uid, number: tmp_path / str(number))
    tracer.publish([event(1, "job.queued", 100.0)])
    tracer.publish([event(2, "job.running", 101.0, attempt_count=1, attempt_start=101.0)])
    error = {"reason": "DISK_FULL", "message": ""}
    tracer.publish([event(3, "job.retrying", 103.0, attempt_count=1, attempt_start=101.0, error=error)])
    tracer.publish([event(4, "job.queued", 105.0, attempt_count=1, attempt_start=101.0)])
    tracer.publish([event(5, "job.running", 106.0, attempt_count=2, attempt_start=106.0)])
    tracer.publish([event(6, "job.succeeded", 110.0, attempt_count=2, attempt_start=106.0)])
    await tracer.close()
    spans = {span.name: span for span in kept.spans}
    assert set(spans) == {"queued", "attempt 1", "attempt 2", "run", "job export"}
    assert {span.context.trace_id for span in kept.spans} == {UID.replace("-", "")}
    root = spans["job export"]
    assert (root.context, root.start, root.end, root.error) == (of_job(UID), 100.0, 110.0, "")
    assert spans["attempt 1"].error == "DISK_FULL"
    assert spans["attempt 2"].parent_id == root.context.span_id
    assert spans["run"].parent_id == of_job(UID, 2).span_id
    assert tracer._since == {}


async def test_a_call_goes_on_with_its_callers_trace_and_links_to_its_job(tmp_path):
    kept = Kept()
    tracer = Tracer(kept, lambda *_: tmp_path)
    parent = TraceContext("a" * 32, "b" * 16)
    call = tracer.begin("/x.Jobs/Create", [("other", "1"), ("traceparent", parent.traceparent)])
    tracer.host_called("provider/directory", "ListMachines", 0.5, Unavailable("x", reason="HOST_CRASHED"))

    class Answer:
        name, uid = "jobs/nightly", UID

    tracer.answered(call, Answer)
    below, own = kept.spans
    assert (own.name, own.context.trace_id, own.parent_id) == ("x.Jobs/Create", "a" * 32, "b" * 16)
    assert own.links == [of_job(UID)]
    assert (below.context.trace_id, below.parent_id, below.error) == ("a" * 32, own.context.span_id, "HOST_CRASHED")


@pytest.mark.parametrize(
    "text", ["", "junk", "00-" + "0" * 32 + "-" + "b" * 16 + "-01", "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
             "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "A" * 32 + "-" + "b" * 16 + "-01"]
)  # fmt: skip
def test_a_wrong_traceparent_starts_a_new_trace(text):
    assert parse(text) is None


@given(st.text(max_size=300))
def test_no_traceparent_breaks_anything(text):
    found = parse(text)
    assert found is None or parse(found.traceparent) == found


async def test_spans_reach_a_collector_in_its_encoding(collector):
    exporter = Exporter(collector.url)
    context = of_job(UID)
    exporter.add(Span("x", context, 1.5, 2.0, "b" * 16, otlp.SERVER, {"a": 1, "b": True, "c": "t"}, "WHY", [context]))
    await exporter.close()
    (span,) = collector.spans
    assert (span["traceId"], span["spanId"], span["parentSpanId"]) == (context.trace_id, context.span_id, "b" * 16)
    assert (span["startTimeUnixNano"], span["endTimeUnixNano"], span["kind"]) == ("1500000000", "2000000000", 2)
    assert span["status"] == {"code": 2, "message": "WHY"}
    assert {"key": "a", "value": {"intValue": "1"}} in span["attributes"]


async def test_a_collector_that_is_away_costs_a_bounded_queue_and_nothing_else(collector, monkeypatch):
    monkeypatch.setattr(otlp, "QUEUE", 10)
    collector.status = 503
    exporter = Exporter(collector.url)
    for _ in range(25):
        exporter.add(Span("x", of_job(UID), 1.0, 2.0))
    assert exporter.dropped == 15
    await exporter.flush()
    assert exporter.dropped == 25
    collector.status = 200
    exporter.add(Span("later", of_job(UID), 1.0, 2.0))
    await exporter.flush()
    assert [span["name"] for span in collector.spans] == ["later"]


async def test_a_full_batch_is_sent_at_once(collector, monkeypatch):
    monkeypatch.setattr(otlp, "BATCH", 3)
    monkeypatch.setattr(otlp, "EVERY_S", 3600.0)
    exporter = Exporter(collector.url)
    exporter.start()
    for _ in range(3):
        exporter.add(Span("x", of_job(UID), 1.0, 2.0))
    async with asyncio.timeout(20):
        while len(collector.spans) < 3:
            await asyncio.sleep(0.01)
    await exporter.close()


@pytest.mark.parametrize("endpoint", ["ftp://x", "localhost:4318", "http://", "http://u:p@x"])
def test_an_endpoint_that_is_none_is_a_wrong_configuration(endpoint):
    with pytest.raises(InvalidArgument):
        Exporter(endpoint)


def test_what_a_plugin_wrote_into_the_journal_is_checked(tmp_path):
    lines = [
        '{"type":"span","name":"good","start":1,"end":2}', '{"type":"span","name":"backwards","start":2,"end":1}',
        '{"type":"span","name":"no end","start":2}', '{"type":"span","start":NaN,"end":1,"name":"x"}', '"type":"span"',
        '{"type":"span","name":"far","start":1,"end":1e300}',
    ]  # fmt: skip
    (tmp_path / "j").write_text("\n".join(lines) + "\n")
    assert [record["name"] for record in runner_spans(tmp_path / "j")] == ["good"]
    assert runner_spans(tmp_path / "none") == []
