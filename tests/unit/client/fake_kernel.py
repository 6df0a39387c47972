"""A kernel for tests of the client and the command line: the generated servicers over dictionaries, on a unix socket.

It knows resources, pages, request ids and revisions; it runs nothing: a test sets a job's state itself (`set_state`).
`failures` makes the next calls fail. It is no model of the real kernel beyond what proto/ promises.
"""

# ruff: noqa: N802 - the method names are those of the generated servicers

from __future__ import annotations

import threading
from collections import deque
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf import any_pb2, duration_pb2, empty_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from hypersdk.api.connections.v1 import connections_pb2, connections_pb2_grpc
from hypersdk.api.events.v1 import events_pb2, events_pb2_grpc
from hypersdk.api.formats.v1 import formats_pb2, formats_pb2_grpc
from hypersdk.api.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from hypersdk.api.plugins.v1 import plugins_pb2, plugins_pb2_grpc
from hypersdk.api.storage.v1 import storage_pb2, storage_pb2_grpc
from hypersdk.api.system.v1 import system_pb2, system_pb2_grpc

PAGE = 2


def rich(code: int, message: str, reason: str, *, metadata=None, violations=(), retry_s=None) -> status_pb2.Status:
    """A google.rpc.Status with the details that the kernel sends."""
    details = [error_details_pb2.ErrorInfo(reason=reason, domain="hypersdk.dev", metadata=metadata or {})]
    if violations:
        rows = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
        details.append(error_details_pb2.BadRequest(field_violations=rows))
    if retry_s is not None:
        delay = duration_pb2.Duration(seconds=int(retry_s), nanos=int(retry_s % 1 * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        box = any_pb2.Any()
        box.Pack(detail)
        packed.append(box)
    return status_pb2.Status(code=code, message=message, details=packed)


def unavailable(**kw) -> status_pb2.Status:
    return rich(code_pb2.UNAVAILABLE, "the host of plugins/x is restarting", "HOST_RESTARTING", **kw)


def _not_found(context, what: str, name: str) -> None:
    status = rich(code_pb2.NOT_FOUND, f"there is no {name}", f"{what.upper()}_NOT_FOUND", metadata={"name": name})
    context.abort_with_status(rpc_status.to_status(status))


class _Interceptor(grpc.ServerInterceptor):
    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def intercept_service(self, continuation, details):
        self._kernel.calls.append((details.method.rpartition("/")[2], dict(details.invocation_metadata)))
        if not self._kernel.failures:
            return continuation(details)
        status = self._kernel.failures.popleft()

        def fail(request, context):
            context.abort_with_status(rpc_status.to_status(status))

        if details.method.rpartition("/")[2].startswith(("Watch", "Stream")):
            return grpc.unary_stream_rpc_method_handler(fail)
        return grpc.unary_unary_rpc_method_handler(fail)


def _page(items: list, request, response, field: str):
    start = int(request.page_token or 0)
    getattr(response, field).extend(items[start : start + PAGE])
    if start + PAGE < len(items):
        response.next_page_token = str(start + PAGE)
    return response


class FakeKernel(
    jobs_pb2_grpc.JobServiceServicer,
    connections_pb2_grpc.ConnectionServiceServicer,
    inventory_pb2_grpc.InventoryServiceServicer,
    formats_pb2_grpc.FormatServiceServicer,
    storage_pb2_grpc.StorageServiceServicer,
    plugins_pb2_grpc.PluginServiceServicer,
    events_pb2_grpc.EventServiceServicer,
    system_pb2_grpc.SystemServiceServicer,
):
    """Life: `start(folder)` listens on `address`; tests read `jobs`, `connections`, `calls`, `requests`; `stop()`."""

    def __init__(self) -> None:
        self.jobs: dict[str, jobs_pb2.Job] = {}
        self.connections: dict[str, connections_pb2.Connection] = {}
        self.machines: list[inventory_pb2.Machine] = []
        self.unreachable: list[str] = []
        self.plugins: list[plugins_pb2.Plugin] = []
        self.formats: list[formats_pb2.Format] = []
        self.objects: list[storage_pb2.Object] = []
        self.events: list[events_pb2.Event] = []
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.requests: list = []
        self.failures: deque[status_pb2.Status] = deque()
        self.oldest_revision = 0
        self.end_new_jobs_with: int | None = None
        self._answers: dict[str, jobs_pb2.Job] = {}
        self._changes: list[jobs_pb2.WatchJobsResponse] = []
        self._changed = threading.Condition()
        self._stopped = False
        self.told = 0
        self.watching = threading.Event()
        self.watch_ended = threading.Event()
        self.address = ""

    def start(self, folder: Path) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=[_Interceptor(self)])
        for module, service in (
            (jobs_pb2_grpc, "JobService"), (connections_pb2_grpc, "ConnectionService"),
            (inventory_pb2_grpc, "InventoryService"), (formats_pb2_grpc, "FormatService"),
            (storage_pb2_grpc, "StorageService"), (plugins_pb2_grpc, "PluginService"),
            (events_pb2_grpc, "EventService"), (system_pb2_grpc, "SystemService"),
        ):  # fmt: skip
            getattr(module, f"add_{service}Servicer_to_server")(self, self._server)
        self.address = f"unix:{folder}/hypersdkd.sock"
        self._server.add_insecure_port(self.address)
        self._server.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._server.stop(0).wait()

    def set_state(self, name: str, state: int, **fields) -> None:
        """Change a job and tell the watchers."""
        with self._changed:
            job = self.jobs[name]
            job.state = state
            job.MergeFrom(jobs_pb2.Job(**fields))
            self._note(job)

    def progress(self, name: str, done: int, total: int) -> None:
        with self._changed:
            job = self.jobs[name]
            job.progress.CopyFrom(
                jobs_pb2.Progress(phase="copy", bytes_done=done, bytes_total=total, bytes_read=done, bytes_written=done)
            )
            self._note(job)

    def _note(self, job: jobs_pb2.Job) -> None:
        self._changes.append(jobs_pb2.WatchJobsResponse(revision=len(self._changes) + 1, job=job))
        self._changed.notify_all()

    # JobService

    def CreateJob(self, request, context):
        self.requests.append(request)
        if request.request_id in self._answers:
            return self._answers[request.request_id]
        job = jobs_pb2.Job()
        job.CopyFrom(request.job)
        job.name = f"jobs/{request.job_id or f'job-{len(self.jobs) + 1}'}"
        job.state = jobs_pb2.JOB_STATE_QUEUED
        if request.validate_only:
            return job
        self._answers[request.request_id] = job
        with self._changed:
            self.jobs[job.name] = job
            self._note(job)
        if self.end_new_jobs_with is not None:
            self.progress(job.name, 512, 1024)
            self.set_state(job.name, self.end_new_jobs_with)
        return job

    def GetJob(self, request, context):
        if request.name not in self.jobs:
            _not_found(context, "job", request.name)
        return self.jobs[request.name]

    def ListJobs(self, request, context):
        self.requests.append(request)
        return _page(list(self.jobs.values()), request, jobs_pb2.ListJobsResponse(), "jobs")

    def _steer(self, request, context, state: int):
        self.requests.append(request)
        self.GetJob(request, context)
        if not request.validate_only:
            self.set_state(request.name, state)
        return self.jobs[request.name]

    def CancelJob(self, request, context):
        return self._steer(request, context, jobs_pb2.JOB_STATE_CANCELLED)

    def PauseJob(self, request, context):
        return self._steer(request, context, jobs_pb2.JOB_STATE_PAUSED)

    def ResumeJob(self, request, context):
        return self._steer(request, context, jobs_pb2.JOB_STATE_RUNNING)

    def RetryJob(self, request, context):
        return self._steer(request, context, jobs_pb2.JOB_STATE_QUEUED)

    def WatchJobs(self, request, context):
        self.requests.append(request)
        if any(name not in self.jobs for name in request.names):
            _not_found(context, "job", request.names[0])
        if 0 < request.since_revision < self.oldest_revision:
            status = rich(code_pb2.OUT_OF_RANGE, "that revision is gone", "REVISION_GONE")
            context.abort_with_status(rpc_status.to_status(status))
        context.add_callback(self.watch_ended.set)
        at = request.since_revision
        if at == 0:
            at = len(self._changes)
            for name in request.names or list(self.jobs):
                yield jobs_pb2.WatchJobsResponse(revision=at, job=self.jobs[name])
        while context.is_active() and not self._stopped:
            self.watching.set()
            yield jobs_pb2.WatchJobsResponse(revision=at)
            self.told += 1
            with self._changed:
                self._changed.wait_for(lambda at=at: len(self._changes) > at or self._stopped, timeout=5)
                new, at = self._changes[at:], len(self._changes)
            for change in new:
                if not request.names or change.job.name in request.names:
                    yield change

    def ListAttempts(self, request, context):
        return jobs_pb2.ListAttemptsResponse(attempts=[jobs_pb2.Attempt(name=f"{request.parent}/attempts/1", number=1)])

    def StreamLogs(self, request, context):
        for event in ("disk_opened", "disk_copied"):
            line = jobs_pb2.StreamLogsResponse(level="info", event=event, attempt=1)
            line.fields.update({"bytes": 4096})
            yield line

    # ConnectionService

    def CreateConnection(self, request, context):
        self.requests.append(request)
        name = f"connections/{request.connection_id}"
        if name in self.connections:
            status = rich(code_pb2.ALREADY_EXISTS, f"{name} exists", "CONNECTION_EXISTS")
            context.abort_with_status(rpc_status.to_status(status))
        connection = connections_pb2.Connection()
        connection.CopyFrom(request.connection)
        connection.name, connection.etag = name, "e1"
        if not request.validate_only:
            self.connections[name] = connection
        return connection

    def GetConnection(self, request, context):
        if request.name not in self.connections:
            _not_found(context, "connection", request.name)
        return self.connections[request.name]

    def ListConnections(self, request, context):
        found = list(self.connections.values())
        return _page(found, request, connections_pb2.ListConnectionsResponse(), "connections")

    def UpdateConnection(self, request, context):
        self.requests.append(request)
        connection = self.GetConnection(request.connection, context)
        for path in request.update_mask.paths:
            connection.ClearField(path)
        connection.MergeFrom(request.connection)
        return connection

    def DeleteConnection(self, request, context):
        self.requests.append(request)
        if not request.validate_only:
            self.connections.pop(request.name, None)
        return empty_pb2.Empty()

    def TestConnection(self, request, context):
        ok = request.name != "connections/broken"
        return connections_pb2.TestConnectionResponse(ok=ok, message="" if ok else "no route to host")

    # Domain services

    def GetMachine(self, request, context):
        found = [m for m in self.machines if m.name == request.name]
        return found[0] if found else _not_found(context, "machine", request.name)

    def ListMachines(self, request, context):
        self.requests.append(request)
        parent = "" if request.parent == "connections/-" else request.parent + "/"
        machines = [m for m in self.machines if m.name.startswith(parent)]
        response = inventory_pb2.ListMachinesResponse(unreachable=self.unreachable if not request.page_token else [])
        return _page(machines, request, response, "machines")

    def ListFormats(self, request, context):
        return _page(self.formats, request, formats_pb2.ListFormatsResponse(), "formats")

    def ListObjects(self, request, context):
        self.requests.append(request)
        found = [o for o in self.objects if o.key.startswith(request.prefix)]
        return _page(found, request, storage_pb2.ListObjectsResponse(), "objects")

    def DeleteObject(self, request, context):
        self.requests.append(request)
        return empty_pb2.Empty()

    def GetUsage(self, request, context):
        return storage_pb2.Usage(name=request.name, used_bytes=10, free_bytes=-1, object_count=len(self.objects))

    # PluginService, EventService, SystemService

    def UploadPlugin(self, requests, context):
        self.requests.append(next(requests).upload)
        return plugins_pb2.Plugin(name="plugins/x")

    def ListPlugins(self, request, context):
        return _page(self.plugins, request, plugins_pb2.ListPluginsResponse(), "plugins")

    def GetPlugin(self, request, context):
        found = [p for p in self.plugins if p.name == request.name]
        return found[0] if found else _not_found(context, "plugin", request.name)

    def CheckPluginHealth(self, request, context):
        return plugins_pb2.CheckPluginHealthResponse(ok=request.name != "plugins/sick", message="it hangs")

    def ListEvents(self, request, context):
        self.requests.append(request)
        return _page(self.events, request, events_pb2.ListEventsResponse(), "events")

    def WatchEvents(self, request, context):
        self.requests.append(request)
        for event in self.events:
            if event.revision > request.since_revision:
                yield events_pb2.WatchEventsResponse(revision=event.revision, event=event)

    def GetSystemInfo(self, request, context):
        return system_pb2.SystemInfo(version="9.9", pid=77, last_revision=len(self._changes), addresses=[self.address])
