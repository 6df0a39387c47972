"""A job traced from its call to its runner, at a collector of the test's own."""

import os
import time

from hypersdk.client import Client
from unit.server.test_tracing import Collector


def test_a_job_is_traced_from_the_call_to_the_runner(start, tmp_path):
    collector = Collector()
    daemon = start("--no-tcp", "--otlp-endpoint", collector.url)
    daemon.wait_ready()
    (tmp_path / "disk.raw").write_bytes(os.urandom(1 << 20))
    spec = {
        "source_path": str(tmp_path / "disk.raw"), "source_format": "raw", "target_path": str(tmp_path / "disk.qcow2"),
        "format": "qcow2",
    }  # fmt: skip
    with Client(f"unix:{daemon.state}/hypersdkd.sock") as client:
        made = client.jobs.create("convert", spec)
    trace = made.uid.replace("-", "")
    wanted = {"job convert", "queued", "attempt 1", "load", "run"}
    deadline = time.monotonic() + 60
    while wanted - {span["name"] for span in collector.spans if span["traceId"] == trace}:
        assert time.monotonic() < deadline, sorted(span["name"] for span in collector.spans)
        time.sleep(0.05)
    spans = {span["name"]: span for span in collector.spans if span["traceId"] == trace}
    assert spans["run"]["parentSpanId"] == spans["attempt 1"]["spanId"]
    assert spans["attempt 1"]["parentSpanId"] == spans["job convert"]["spanId"]
    call = next(span for span in collector.spans if span["name"].endswith("JobService/CreateJob"))
    assert call["links"] == [{"traceId": trace, "spanId": spans["job convert"]["spanId"]}]
    assert daemon.stop() == 0
    collector.close()
