# Generated from aio/jobs.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.jobs: submit, follow and steer jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager
from hypersdk.client.terminal import has_ended
from hypersdk.errors import Internal


class Jobs:
    """Calls of JobService. Names are `jobs/{job}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = jobs_pb2_grpc.JobServiceStub(channel)
        self._caller = caller

    def create(
        self,
        task: str,
        spec: Mapping[str, Any],
        *,
        job_id: str = "",
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        max_attempts: int = 0,
        bandwidth_limit_bytes: int = 0,
        request_id: str = "",
        validate_only: bool = False,
        timeout_s: float | None = None,
    ) -> jobs_pb2.Job:
        """Durably queue a job of `task`. `priority` 0 (last) to 100; `max_attempts` 0: the kernel's default;
        `bandwidth_limit_bytes` per second, 0: none. With `validate_only` everything is checked and nothing queued."""
        packed = Struct()
        packed.update(spec)
        job = jobs_pb2.Job(
            task=task, spec=packed, display_name=display_name, labels=labels or {}, priority=priority,
            bandwidth_limit_bytes=bandwidth_limit_bytes,
        )  # fmt: skip
        if max_attempts:
            job.retry_policy.max_attempts = max_attempts
        request = jobs_pb2.CreateJobRequest(
            job=job, job_id=job_id, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CreateJob, request, timeout_s)

    def submit(
        self, job: jobs_pb2.Job, *, job_id: str = "", request_id: str = "", validate_only: bool = False
    ) -> jobs_pb2.Job:
        """As `create`, of a whole message: with dependencies, a window, a deadline, a retry policy."""
        request = jobs_pb2.CreateJobRequest(
            job=job, job_id=job_id, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CreateJob, request)

    def submit_many(
        self,
        requests: Sequence[jobs_pb2.CreateJobRequest],
        *,
        request_id: str = "",
        validate_only: bool = False,
    ) -> Sequence[jobs_pb2.Job]:
        """Durably queue up to 1,000 jobs, all or none. They may depend on each other by the job ids given."""
        request = jobs_pb2.BatchCreateJobsRequest(
            requests=requests, request_id=request_id, validate_only=validate_only
        )
        answer: jobs_pb2.BatchCreateJobsResponse = self._caller.unary(self._stub.BatchCreateJobs, request)
        return answer.jobs

    def explain(self, name: str) -> jobs_pb2.JobExplanation:
        """Why a job is where it is, in words, and what would make it go on."""
        return self._caller.unary(self._stub.ExplainJob, jobs_pb2.ExplainJobRequest(name=name))

    def get(self, name: str, *, timeout_s: float | None = None) -> jobs_pb2.Job:
        """One job. Raises NotFound."""
        return self._caller.unary(self._stub.GetJob, jobs_pb2.GetJobRequest(name=name), timeout_s)

    def list(
        self, *, filter: str = "", order_by: str = "", page_size: int = 0  # noqa: A002 - the API's name of it
    ) -> Pager[jobs_pb2.ListJobsResponse, jobs_pb2.Job]:
        """All jobs that pass the filter (AIP-160 subset), newest first by default."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListJobs,
                jobs_pb2.ListJobsRequest(
                    filter=filter, order_by=order_by, page_size=page_size, page_token=token
                ),
            ),
            lambda page: page.jobs,
        )

    def cancel(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> jobs_pb2.Job:
        """Ask the job to stop. It is CANCELLED once its runner has cleaned up; `wait` for that."""
        request = jobs_pb2.CancelJobRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CancelJob, request)

    def pause(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> jobs_pb2.Job:
        """Hold a queued job, or stop a running one between two pieces of work."""
        request = jobs_pb2.PauseJobRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.PauseJob, request)

    def resume(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> jobs_pb2.Job:
        """Let a paused job go on."""
        request = jobs_pb2.ResumeJobRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.ResumeJob, request)

    def retry(
        self,
        name: str,
        *,
        repin: bool = False,
        etag: str = "",
        request_id: str = "",
        validate_only: bool = False,
    ) -> jobs_pb2.Job:
        """Queue a failed or cancelled job again; it goes on from its checkpoint. `repin`: with the plugin
        generations that are active now."""
        request = jobs_pb2.RetryJobRequest(
            name=name, repin=repin, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.RetryJob, request)

    def watch(
        self,
        names: Sequence[str] = (),
        *,
        since_revision: int = 0,
        states_only: bool = False,
        timeout_s: float | None = None,
    ) -> Generator[jobs_pb2.WatchJobsResponse, None, None]:
        """State changes and progress of these jobs (all if none is named), without end; heartbeats are left out.
        From 0 the jobs come first as they are. Broken streams are resumed from the last revision; when that is
        gone, the jobs come once more as they are."""

        def since(revision: int) -> jobs_pb2.WatchJobsRequest:
            return jobs_pb2.WatchJobsRequest(names=names, since_revision=revision, states_only=states_only)

        changes = self._caller.watch(
            self._stub.WatchJobs, since, since_revision, relist=True, timeout_s=timeout_s
        )
        with closing(changes):
            for change in changes:
                if change.HasField("job"):
                    yield change

    def wait(
        self,
        name: str,
        on_progress: Callable[[jobs_pb2.Job], None] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> jobs_pb2.Job:
        """The job as it ended: SUCCEEDED, FAILED or CANCELLED (`failure_of` turns the latter two into an error).
        `on_progress` is told of the job at each change. Survives restarts of the daemon. Raises DeadlineExceeded
        after `timeout_s`; the job itself goes on then."""
        changes = self.watch([name], timeout_s=timeout_s)
        with closing(changes):
            for change in changes:
                if on_progress is not None:
                    on_progress(change.job)
                if has_ended(change.job):
                    return change.job
        raise Internal(f"the watch of {name} ended without an error", reason="WATCH_ENDED")

    def attempts(self, name: str) -> Pager[jobs_pb2.ListAttemptsResponse, jobs_pb2.Attempt]:
        """The attempts of a job, first to last."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListAttempts, jobs_pb2.ListAttemptsRequest(parent=name, page_token=token)
            ),
            lambda page: page.attempts,
        )

    def logs(
        self, name: str, *, attempt: int = 0, follow: bool = False
    ) -> Generator[jobs_pb2.StreamLogsResponse, None, None]:
        """The log of an attempt (0: the last) from its start; with `follow`, on until the attempt ends."""
        request = jobs_pb2.StreamLogsRequest(name=name, attempt=attempt, follow=follow)
        return self._caller.stream(self._stub.StreamLogs, request)
