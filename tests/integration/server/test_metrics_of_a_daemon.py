"""A real daemon scraped while it works."""

import socket
import urllib.request

from hypersdk.client import Client
from hypersdk.errors import NotFound
from prometheus_client.parser import text_string_to_metric_families


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_calls_jobs_and_commits_of_a_daemon_are_scraped(start):
    port = free_port()
    daemon = start("--no-tcp", "--metrics-port", str(port))
    daemon.wait_ready()
    with Client(f"unix:{daemon.state}/hypersdkd.sock") as client:
        client.connections.create("store", "storage/local", {"path": "/srv/x"})
        try:
            client.jobs.get("jobs/none")
        except NotFound:
            pass
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20).read().decode()
        assert f"http://127.0.0.1:{port}/metrics" in client.system.info().addresses
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    jobs = "/hypersdk.api.jobs.v1.JobService/GetJob"
    assert found["hypersdk_calls_total", jobs, "NOT_FOUND"] == 1
    assert found["hypersdk_store_commit_duration_seconds_count",] >= 1
    assert found["hypersdk_jobs", "queued"] == 0
    assert found["hypersdk_last_revision",] >= 1
