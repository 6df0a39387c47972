"""A real runner process and the kernel's side of its protocol: attach, kill -9, next attempt, commands, cleanup."""

import json
import resource
import signal
import subprocess
import sys

import pytest
from children import TIMEOUT_S, Job, write_module

SECRET = "correct-horse-battery"
CONNECTION = {"component": "provider/p", "config": {}, "secrets": {"password": SECRET}}

COUNTING = """
import json, time
from hypersdk.plugin import Progress, Task
class T(Task):
    def run(self, context):
        start = (context.checkpoint or {}).get("next", 0)
        context.acquired("snapshot", "provider/p", {"connection": "connections/lab", "id": context.attempt})
        for i in range(start, context.spec["steps"]):
            context.check()
            context.progress(Progress("copy", i, context.spec["steps"]))
            with open(context.scratch_dir / "steps", "a") as file:
                print(i, file=file)
            context.save_checkpoint({"next": i + 1})
            time.sleep(context.spec.get("pause_s", 0))
        context.released("snapshot")
        return {"started_at": start, "seen": dict(context.outstanding())}
"""

PROVIDER = """
from hypersdk.plugin import Health, Provider
class P(Provider):
    def configure(self, config, secrets):
        self.password = secrets["password"]
    def health(self): return Health(True)
    def machines(self, page_size, page_token): ...
    def machine(self, machine_id): ...
    def open_source(self, machine_id, disk_id, context): ...
    def cleanup(self, record):
        if record["id"] == "stuck":
            raise RuntimeError(f"cannot log in with {self.password}")
        open(record["path"], "x").close()
"""


@pytest.fixture
def job(tmp_path):
    job = Job(tmp_path)
    write_module(job.plugins, "job_task", COUNTING)
    write_module(job.plugins, "job_provider", PROVIDER)
    yield job
    job.kill_all()


def task(job: Job, body: str) -> None:
    indented = "\n".join("        " + line for line in body.strip().splitlines())
    head = "import os, sys, time\nfrom hypersdk.errors import *\nfrom hypersdk.plugin import Progress, Task\n"
    write_module(job.plugins, "job_task", f"{head}class T(Task):\n    def run(self, context):\n{indented}\n")


def test_an_attached_kernel_is_told_every_record_in_order(job):
    process = job.start(spec={"steps": 5})
    kernel = job.connect()
    finished = kernel.wait_record("finished")
    assert process.wait(TIMEOUT_S) == 0
    assert finished["status"] == "succeeded"
    assert finished["outstanding"] == []
    assert kernel.of("record") == job.journal()
    assert [r["seq"] for r in job.journal()] == list(range(1, len(job.journal()) + 1))
    started = job.journal()[0]
    assert started["type"] == "started"
    assert started["pid"] == process.pid
    assert started["resumed"] is False


def test_after_kill_9_the_next_attempt_goes_on_from_the_checkpoint_and_knows_what_was_left_behind(job):
    process = job.start(spec={"steps": 40, "pause_s": 0.02})
    kernel = job.connect()
    kernel.wait_for(lambda c: sum(r["type"] == "checkpointed" for r in c.of("record")) >= 3)
    assert job.locked()
    process.kill()
    process.wait()
    assert not job.locked()

    assert job.start(2, spec={"steps": 40}).wait(TIMEOUT_S) == 0
    finished = job.finished(2)
    assert job.journal(2)[0]["resumed"] is True
    assert finished["result"]["started_at"] >= 3
    # Attempt 2 took and released the resource of the same name, which ends attempt 1's claim too.
    assert finished["result"]["seen"] == {}
    steps = [int(n) for n in (job.job_dir / "scratch" / "steps").read_text().split()]
    assert sorted(set(steps)) == list(range(40))


def test_a_kernel_that_comes_back_is_told_what_it_missed(job):
    process = job.start(spec={"steps": 60, "pause_s": 0.02})
    first = job.connect()
    first.wait_record("checkpointed")
    first.peer.close()
    seen = max(r["seq"] for r in first.of("record"))
    second = job.connect(after_seq=seen)
    second.wait_record("finished")
    assert process.wait(TIMEOUT_S) == 0
    told = [r["seq"] for r in second.of("record")]
    assert told == list(range(seen + 1, job.journal()[-1]["seq"] + 1))


def test_a_new_connection_replaces_the_old_one(job):
    job.start(spec={"steps": 1000, "pause_s": 0.02})
    old = job.connect()
    new = job.connect()
    assert old.peer.closed.wait(TIMEOUT_S)
    assert new.peer.request("ping", {}, TIMEOUT_S) == {}


def test_a_runner_finishes_without_any_kernel(job):
    assert job.start(spec={"steps": 3}).wait(TIMEOUT_S) == 0
    assert job.finished()["status"] == "succeeded"


@pytest.mark.parametrize("how", ["command", "SIGTERM"])
def test_cancel_ends_the_task_at_its_next_check(job, how):
    process = job.start(spec={"steps": 10_000, "pause_s": 0.01})
    kernel = job.connect()
    kernel.wait_record("checkpointed")
    if how == "command":
        assert kernel.peer.request("cancel", {"reason": "not needed"}, TIMEOUT_S) == {}
    else:
        process.send_signal(signal.SIGTERM)
    finished = kernel.wait_record("finished")
    assert process.wait(TIMEOUT_S) == 0
    assert finished["status"] == "cancelled"
    assert finished["error"]["kind"] == "Cancelled"
    assert finished["outstanding"] == ["snapshot"]


def test_sigint_and_sighup_are_ignored(job):
    process = job.start(spec={"steps": 20, "pause_s": 0.01})
    job.connect().wait_record("started")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    assert process.wait(TIMEOUT_S) == 0
    assert job.finished()["status"] == "succeeded"


def test_a_paused_runner_does_nothing_until_it_is_resumed(job):
    process = job.start(spec={"steps": 3}, paused=True)
    kernel = job.connect()
    kernel.wait_record("acquired")
    assert kernel.peer.request("pause", {}, TIMEOUT_S) == {}
    assert not (job.job_dir / "scratch" / "steps").exists()
    kernel.peer.request("resume", {}, TIMEOUT_S)
    assert process.wait(TIMEOUT_S) == 0
    kinds = [r["type"] for r in job.journal() if r["type"] in {"paused", "resumed", "finished"}]
    assert kinds == ["paused", "resumed", "finished"]


def test_lifting_the_limit_frees_a_task_that_waits_in_it(job):
    task(job, "context.throttle(1 << 40)\nreturn {}")
    process = job.start(bandwidth_limit_bytes=1000)
    kernel = job.connect()
    kernel.wait_record("started")
    assert kernel.peer.request("throttle", {"bytes_per_second": 0}, TIMEOUT_S) == {}
    assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("body", "kind", "reason", "retryable"),
    [
        ("raise Unavailable('try later', reason='PLATFORM_BUSY')", "Unavailable", "PLATFORM_BUSY", True),
        ("raise ValueError('odd')", "Internal", "UNEXPECTED_EXCEPTION", False),
        ("sys.exit(3)", "Internal", "PLUGIN_EXITED", False),
        ("raise OSError(28, 'No space left on device')", "ResourceExhausted", "DISK_FULL", True),
        ("return 7", "Internal", "PLUGIN_RESULT_INVALID", False),
        ("return {'x': float('nan')}", "Internal", "PLUGIN_RESULT_INVALID", False),
        ("return {'x': 'y' * (1 << 20)}", "Internal", "PLUGIN_RESULT_INVALID", False),
        ("context.provider('connections/other')", "NotFound", "CONNECTION_NOT_GRANTED", False),
        ("context.image_format('nope')", "NotFound", "FORMAT_UNKNOWN", False),
        ("context.acquired('x', 'provider/p', {'token': 'correct-horse-battery'})", "InvalidArgument",
         "SECRET_IN_RECORD", False),
    ],
)  # fmt: skip
def test_every_way_a_task_fails_becomes_a_typed_finished_record(job, body, kind, reason, retryable):
    task(job, body)
    assert job.start(connections={"connections/lab": CONNECTION}).wait(TIMEOUT_S) == 0
    finished = job.finished()
    assert finished["status"] == "failed"
    error = finished["error"]
    assert (error["kind"], error["reason"], error["retryable"]) == (kind, reason, retryable)


def test_a_plugin_that_raises_on_import_fails_the_attempt_with_its_place(job):
    write_module(job.plugins, "job_task", "import no_such_library")
    assert job.start().wait(TIMEOUT_S) == 0
    error = job.finished()["error"]
    assert error["reason"] == "PLUGIN_IMPORT_FAILED"
    assert "no_such_library" in error["message"]


def test_a_task_that_ends_its_process_leaves_no_finished_record_and_a_status_that_says_so(job):
    task(job, "os._exit(9)")
    assert job.start().wait(TIMEOUT_S) == 9
    assert [r["type"] for r in job.journal()] == ["started"]
    assert not job.locked()


def test_secrets_reach_neither_journal_nor_logs_nor_output(job):
    task(
        job,
        f"""
secret = {SECRET!r}
print("to stdout", secret)
print("to stderr " + secret, file=sys.stderr)
context.log("login_failed", password=secret, nested={{"key": [secret, ValueError(secret)]}})
context.progress(Progress(message="with " + secret))
raise RuntimeError("refused " + secret)
""",
    )
    assert job.start(connections={"connections/lab": CONNECTION}).wait(TIMEOUT_S) == 0
    files = [p for p in job.job_dir.rglob("*") if p.is_file()]
    assert {"journal.jsonl", "log.jsonl", "output.log"} <= {p.name for p in files}
    for path in files:
        assert SECRET not in path.read_text(), path
    assert "refused [redacted]" in job.finished()["error"]["message"]
    assert "to stdout [redacted]" in (job.attempt_dir(1) / "output.log").read_text()


def test_what_is_printed_goes_to_output_log_and_what_is_logged_to_log_jsonl(job):
    task(job, "print('hello')\nos.write(1, b'raw\\n')\ncontext.log('disk_opened', size=7)\nreturn {}")
    assert job.start().wait(TIMEOUT_S) == 0
    assert (job.attempt_dir(1) / "output.log").read_text() == "hello\nraw\n"
    line = json.loads((job.attempt_dir(1) / "log.jsonl").read_text())
    assert (line["level"], line["event"], line["fields"]) == ("info", "disk_opened", {"size": 7})


def test_a_runner_is_private_to_itself(job):
    task(
        job,
        """
status = open("/proc/self/status").read()
import resource
return {"no_new_privs": "NoNewPrivs:\\t1" in status, "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "stdin": os.readlink("/proc/self/fd/0")}
""",
    )
    assert job.start().wait(TIMEOUT_S) == 0
    result = job.finished()["result"]
    assert result["no_new_privs"] is True
    assert result["core"] == 0
    assert result["stdin"] == "/dev/null"


def test_cleanup_releases_each_resource_and_reports_those_it_could_not(job, tmp_path):
    marker = tmp_path / "released"
    held = {
        "stuck": {"component": "provider/p", "record": {"connection": "connections/lab", "id": "stuck"}},
        "snapshot": {
            "component": "provider/p",
            "record": {"connection": "connections/lab", "id": "s1", "path": str(marker)},
        },
    }
    process = job.start(
        mode="cleanup", outstanding=held, connections={"connections/lab": CONNECTION},
        components={"provider/p": job.component("job_provider:P")},
    )  # fmt: skip
    assert process.wait(TIMEOUT_S) == 0
    assert marker.exists()
    assert [r["resource_id"] for r in job.journal() if r["type"] == "released"] == ["snapshot"]
    finished = job.finished()
    assert finished["status"] == "failed"
    assert finished["outstanding"] == ["stuck"]
    assert SECRET not in json.dumps(finished)


def test_a_spec_that_cannot_be_read_ends_the_runner_with_a_failure(job, capfd):
    assert job.start(protocol=99).wait(TIMEOUT_S) == 1
    assert "protocol" in capfd.readouterr().err
    assert not (job.attempt_dir(1) / "journal.jsonl").exists()


def test_a_journal_that_cannot_be_written_ends_the_runner_with_a_failure(job):
    task(job, "context.check()\nfor i in range(100000): context.save_checkpoint({'i': i})\nreturn {}")
    folder = job.attempt_dir(1)
    process = job.start(paused=True)
    kernel = job.connect()
    kernel.wait_record("paused")
    # A file-size limit set from outside stands for the full disk: every further write of the journal fails.
    size = (folder / "journal.jsonl").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    kernel.peer.notify("resume", {})
    assert process.wait(TIMEOUT_S) == 1
    assert (folder / "journal.jsonl").stat().st_size == size


def test_starting_a_program_from_a_task_does_not_pass_on_its_descriptors_or_the_lock(job):
    task(
        job,
        """
import subprocess
fds = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout.split()
return {"fds": [int(n) for n in fds]}
""",
    )
    assert job.start().wait(TIMEOUT_S) == 0
    assert all(fd < 200 for fd in job.finished()["result"]["fds"])


def test_the_usage_is_told_to_a_person(capfd):
    assert subprocess.run([sys.executable, "-I", "-m", "hypersdk.runner"], check=False).returncode == 1
    assert "usage:" in capfd.readouterr().err
