"""A PostgreSQL that does not answer holds up those who ask it and nobody else: the leader's loop never waits for it."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.jobs.v1.jobs_pb2 import Dependency, DependencyNeed, Job
from hypersdk.api.schedules.v1.schedules_pb2 import Schedule
from hypersdk.errors import NotFound

pytestmark = [pytest.mark.faults, pytest.mark.peer]

STOPPED_S = 4.0


def export(source, target, **values):
    job = Job(task="convert", **values)
    job.spec.update({"source_path": str(source), "target_path": str(target), "format": "qcow2"})
    return job


def after(name):
    return [Dependency(job=name, need=DependencyNeed.DEPENDENCY_NEED_SUCCEEDED)]


def test_a_leader_whose_server_stands_still_answers_others_and_goes_on_by_itself(fleet, connect, tmp_path):
    source = tmp_path / "a.raw"
    source.write_bytes(bytes(1 << 20))
    leader = fleet.start()
    client = connect(leader)
    done = client.jobs.submit(export(source, tmp_path / "done.qcow2"), job_id="done").name
    client.jobs.wait(done, timeout_s=60)
    assert leader.stop() == 0
    client = connect(leader.start(40))  # with nothing in memory of the job that others wait for
    fleet.leader()
    begin = Timestamp()
    begin.FromMilliseconds(int((time.time() + 2) * 1000))
    late = client.jobs.submit(export(source, tmp_path / "late.qcow2", earliest_start_time=begin), job_id="late").name
    waits = client.jobs.submit(export(source, tmp_path / "w.qcow2", dependencies=after(late)), job_id="waits").name
    ready = export(source, tmp_path / "r.qcow2", dependencies=after(done), earliest_start_time=begin)
    ready = client.jobs.submit(ready, job_id="ready").name
    template = export(source, tmp_path / "often.qcow2")
    client.schedules.create("often", Schedule(cron="@every 1s", job_template=template))
    assert "jobs/late" in client.jobs.explain(waits).summary

    address = f"unix:{leader.state / 'hypersdkd.sock'}"
    with ThreadPoolExecutor(8) as pool, grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        with fleet.database.postgres.standing_still():
            until = time.monotonic() + STOPPED_S
            assert pool.submit(client.jobs.get, late).result(1).name == late  # out of memory
            asked = [
                pool.submit(client.schedules.get, "schedules/often"),
                pool.submit(client.subscriptions.get, "subscriptions/none"),
                pool.submit(client.jobs.get, done),
            ]
            while time.monotonic() < until:
                assert check(health_pb2.HealthCheckRequest(), timeout=1).status == 1
                time.sleep(0.05)
            assert not asked[0].done()
        assert asked[0].result(30).name == "schedules/often"
        with pytest.raises(NotFound):
            asked[1].result(30)
        assert asked[2].result(30).name == done
    for name in (late, waits, ready):
        assert client.jobs.wait(name, timeout_s=60).state == jobs_pb2.JobState.JOB_STATE_SUCCEEDED, name
    seen = client.schedules.get("schedules/often").next_start_time.seconds
    while client.schedules.get("schedules/often").next_start_time.seconds <= seen:
        time.sleep(0.1)
