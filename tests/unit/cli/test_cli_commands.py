"""The daemon's commands against the fake kernel: output modes, exit codes, what is sent."""

import json
import signal
import subprocess
from contextlib import contextmanager

import pytest
import yaml
from google.rpc import code_pb2
from hypersdk.api.events.v1 import events_pb2
from hypersdk.api.inventory.v1 import inventory_pb2
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.plugins.v1 import plugins_pb2
from hypersdk.api.storage.v1 import storage_pb2
from hypersdk.client import Client
from support.attentive import HYPERCTL
from unit.client.fake_kernel import rich

SUCCEEDED, FAILED, RUNNING = jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_RUNNING


@pytest.fixture
def job(kernel):
    with Client(kernel.address) as client:
        return client.jobs.create("export", {"machine": "connections/x/machines/y"}, job_id="one").name


def test_a_table_has_aligned_columns_without_decoration(hyperctl, job):
    done = hyperctl("job", "list")
    title, row = done.out.splitlines()
    assert title.split() == ["NAME", "TASK", "STATE", "DONE", "CREATED", "TOOK"]
    assert row.startswith("jobs/one  export  QUEUED")
    assert title.index("STATE") == row.index("QUEUED")


def test_wide_has_more_columns(hyperctl, job):
    assert "ATTEMPTS" in hyperctl("job", "list", "-o", "wide").out


def test_names_are_one_a_line(hyperctl, job):
    assert hyperctl("job", "list", "-o", "name").out == "jobs/one\n"


def test_json_is_an_array_and_yaml_says_the_same(hyperctl, job):
    rows = json.loads(hyperctl("job", "list", "-o", "json").out)
    assert rows[0]["state"] == "QUEUED"
    assert yaml.safe_load(hyperctl("job", "list", "-o", "yaml").out) == rows


def test_the_output_mode_may_come_from_the_environment(hyperctl, job, monkeypatch):
    monkeypatch.setenv("HYPERSDK_OUTPUT", "name")
    assert hyperctl("job", "list").out == "jobs/one\n"
    monkeypatch.setenv("HYPERSDK_OUTPUT", "xml")
    done = hyperctl("job", "list")
    assert done.status == 2
    assert "environment HYPERSDK_OUTPUT" in done.err


def test_an_empty_list_says_so_on_stderr(hyperctl, kernel):
    done = hyperctl("job", "list")
    assert (done.status, done.out, done.err) == (0, "", "no jobs\n")
    assert json.loads(hyperctl("job", "list", "-o", "json").out) == []


def test_the_limit_stops_the_listing(hyperctl, kernel):
    with Client(kernel.address) as client:
        for _ in range(5):
            client.jobs.create("export", {})
    assert len(hyperctl("job", "list", "-o", "name", "--limit", "3").out.splitlines()) == 3
    assert len(hyperctl("job", "list", "-o", "name", "--limit", "0").out.splitlines()) == 5


def test_a_filter_is_passed_on(hyperctl, kernel):
    hyperctl("job", "list", "--filter", "state = FAILED", "--order-by", "update_time")
    assert (kernel.requests[-1].filter, kernel.requests[-1].order_by) == ("state = FAILED", "update_time")


@pytest.mark.parametrize("name", ["one", "jobs/one"])
def test_a_job_may_be_named_short_or_in_full(hyperctl, job, name):
    done = hyperctl("job", "get", name, "-o", "json")
    assert json.loads(done.out)["spec"] == {"machine": "connections/x/machines/y"}


def test_an_unknown_job_is_exit_5_with_the_next_command(hyperctl, kernel):
    done = hyperctl("job", "get", "none")
    assert (done.status, done.out) == (5, "")
    assert "there is no jobs/none\n  next: hyperctl job list\n  reason: JOB_NOT_FOUND, request " in done.err


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (code_pb2.UNAUTHENTICATED, 4), (code_pb2.FAILED_PRECONDITION, 6), (code_pb2.UNAVAILABLE, 7),
        (code_pb2.INVALID_ARGUMENT, 2), (code_pb2.INTERNAL, 1),
    ],
)  # fmt: skip
def test_the_exit_status_follows_the_error(hyperctl, kernel, code, status):
    kernel.failures.extend([rich(code, "because", "SOME_REASON")] * 4)
    assert hyperctl("system", "info").status == status


@pytest.mark.parametrize("arguments", [["nonsense"], ["job", "get"], ["job", "list", "--nonsense"], ["job", "x"]])
def test_a_wrong_command_line_is_exit_2(hyperctl, kernel, arguments):
    assert hyperctl(*arguments).status == 2


def test_help_names_every_noun(hyperctl):
    done = hyperctl("--help")
    assert done.status == 0
    for noun in ("job", "connection", "machine", "plugin", "event", "format", "storage", "export", "convert", "image"):
        assert noun in done.out


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_steering_says_what_was_done_and_dry_run_changes_nothing(hyperctl, kernel, job, verb):
    dry = hyperctl("job", verb, "one", "--dry-run")
    assert dry.status == 0
    assert "would be" in dry.err
    assert kernel.requests[-1].validate_only
    assert kernel.jobs[job].state == jobs_pb2.JOB_STATE_QUEUED
    assert hyperctl("job", verb, "one").err.startswith("jobs/one")
    assert not kernel.requests[-1].validate_only


def test_logs_are_printed_line_by_line(hyperctl, job):
    assert "disk_opened" in hyperctl("job", "logs", "one").out
    lines = hyperctl("job", "logs", "one", "-o", "json").out.splitlines()
    assert json.loads(lines[1])["fields"] == {"bytes": 4096}


@contextmanager
def process(*arguments):
    """`hyperctl` as a process of its own, which a signal can be sent to without hitting the test. Killed at the end."""
    running = subprocess.Popen(
        [*HYPERCTL, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with running:
        try:
            yield running
        finally:
            running.kill()


def test_watching_a_job_that_succeeds_is_exit_0(hyperctl, kernel, job):
    kernel.progress(job, 5, 10)
    kernel.set_state(job, SUCCEEDED)
    done = hyperctl("job", "watch", "one")
    assert (done.status, done.out) == (0, "")
    assert "jobs/one  SUCCEEDED" in done.err


def test_watching_a_job_that_fails_says_why_and_is_exit_1(hyperctl, kernel, job):
    kernel.set_state(job, FAILED, error=jobs_pb2.JobError(reason="DISK_FULL", message="no space left"))
    done = hyperctl("job", "watch", "one")
    assert done.status == 1
    assert "jobs/one failed: no space left\n  next: hyperctl job logs jobs/one\n  reason: DISK_FULL" in done.err


def test_the_first_ctrl_c_detaches_with_a_hint(kernel, job):
    kernel.set_state(job, RUNNING)
    with process("job", "watch", "one") as running:
        assert kernel.watching.wait(timeout=60)
        running.send_signal(signal.SIGINT)
        err = running.stderr.read()
        assert running.wait(60) == 130
    assert "detached; jobs/one goes on\n  next: hyperctl job watch jobs/one" in err
    assert kernel.jobs[job].state == RUNNING


def test_watching_a_list_goes_on_from_it_until_interrupted(kernel, job):
    with process("job", "list", "--watch", "-o", "name") as running:
        assert running.stdout.readline() == "jobs/one\n"
        kernel.set_state(job, RUNNING)
        assert running.stdout.readline() == "jobs/one\n"
        running.send_signal(signal.SIGINT)
        assert (running.wait(60), running.stdout.read()) == (130, "")


def test_a_connection_is_created_with_typed_values(hyperctl, kernel, tmp_path):
    (tmp_path / "c.toml").write_text('path = "/a"\ndeep = {x = 1}\n')
    done = hyperctl(
        "connection", "create", "lab", "-c", "storage/local", "--config-file", tmp_path / "c.toml",
        "--config", "path=/b", "--config", "create=true", "--label", "env=lab",
    )  # fmt: skip
    assert (done.status, done.err) == (0, "connections/lab created\n")
    connection = kernel.connections["connections/lab"]
    assert dict(connection.config) == {"path": "/b", "create": True, "deep": {"x": 1}}
    assert connection.labels == {"env": "lab"}
    assert hyperctl("connection", "create", "lab", "-c", "storage/local").status == 6


def test_updating_one_key_keeps_the_others_and_guards_by_etag(hyperctl, kernel):
    hyperctl("connection", "create", "lab", "-c", "storage/local", "--config", "path=/a", "--config", "n=1")
    hyperctl("connection", "update", "lab", "--config", "path=/b")
    assert dict(kernel.connections["connections/lab"].config) == {"path": "/b", "n": 1}
    assert kernel.requests[-1].connection.etag == "e1"
    assert list(kernel.requests[-1].update_mask.paths) == ["config"]


def test_deleting_a_connection(hyperctl, kernel):
    hyperctl("connection", "create", "lab", "-c", "storage/local")
    assert hyperctl("connection", "delete", "lab", "--dry-run").status == 0
    assert "connections/lab" in kernel.connections
    assert hyperctl("connection", "delete", "connections/lab").status == 0
    assert kernel.connections == {}


def test_a_connection_that_does_not_work_is_exit_7(hyperctl, kernel):
    assert hyperctl("connection", "test", "fine").status == 0
    done = hyperctl("connection", "test", "broken")
    assert done.status == 7
    assert "no route to host" in done.err


def test_machines_of_all_connections_with_some_unreachable_are_exit_3(hyperctl, kernel):
    kernel.machines = [inventory_pb2.Machine(name="connections/a/machines/m", disks=[{"size_bytes": 1 << 30}])]
    assert hyperctl("machine", "list").status == 0
    kernel.unreachable = ["connections/b"]
    done = hyperctl("machine", "list")
    assert done.status == 3
    assert "1 GiB" in done.out
    assert "did not answer: connections/b" in done.err


def test_a_machine_may_be_named_short(hyperctl, kernel):
    kernel.machines = [inventory_pb2.Machine(name="connections/a/machines/m", power_state=2)]
    assert "power_state: ON" in hyperctl("machine", "get", "a/m").out


def test_plugins_show_their_state_and_health(hyperctl, kernel):
    generation = {"version": "1.2", "state": 3, "components": [{"name": "format/x"}], "host": {"state": 3}}
    kernel.plugins = [plugins_pb2.Plugin(name="plugins/format-x", active_generation=generation)]
    assert "plugins/format-x  1.2      ACTIVE  SERVING  format/x" in hyperctl("plugin", "list").out
    assert hyperctl("plugin", "health", "format-x").status == 0
    assert hyperctl("plugin", "health", "sick").status == 7


def test_objects_are_listed_by_prefix_and_deleted_by_key(hyperctl, kernel):
    kernel.objects = [storage_pb2.Object(name="x", key=key, size_bytes=5) for key in ("a/1", "a/2", "b/1")]
    assert [line.split()[0] for line in hyperctl("storage", "ls", "st/a/").out.splitlines()] == ["KEY", "a/1", "a/2"]
    hyperctl("storage", "rm", "connections/st/objects/a/1")
    assert kernel.requests[-1].name == "connections/st/objects/a/1"
    assert hyperctl("storage", "rm", "st").status == 2
    assert "used_bytes: 10" in hyperctl("storage", "usage", "st").out


def test_events_are_listed_newest_first(hyperctl, kernel):
    kernel.events = [events_pb2.Event(name="events/7", revision=7, type="job.created", subject="jobs/x")]
    assert "job.created" in hyperctl("event", "list", "--filter", 'type = "job.created"').out
    assert kernel.requests[-1].order_by == "revision desc"


def test_a_flag_names_the_daemon(hyperctl, kernel, monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERSDK_ADDRESS", f"unix:{tmp_path}/none.sock")
    assert hyperctl("system", "info").status == 7
    assert "version: 9.9" in hyperctl("--address", kernel.address, "system", "info").out


def test_config_view_says_where_a_setting_came_from(hyperctl, kernel):
    out = hyperctl("config", "view", "--show-origin").out
    assert f"{kernel.address}  environment HYPERSDK_ADDRESS" in out
    plain = json.loads(hyperctl("--timeout", "9s", "config", "view", "-o", "json").out)
    assert plain["timeout"] == "9s"


def test_completion_offers_live_names(kernel, job):
    from hyperctl.commands.common import complete_job

    assert complete_job("") == ["one"]
    assert complete_job("on") == ["one"]
    assert complete_job("jobs/") == ["jobs/one"]
    assert complete_job("two") == []


def test_completion_is_silent_without_a_daemon(monkeypatch, tmp_path):
    from hyperctl.commands.common import complete_connection

    monkeypatch.setenv("HYPERSDK_ADDRESS", f"unix:{tmp_path}/none.sock")
    assert complete_connection("x") == []
