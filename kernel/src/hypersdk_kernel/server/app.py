"""The composition root: every part is made here and handed to those that need it, and nowhere else.

Up: store and plugins, hosts, engine, bus, services, listeners, reconciliation, then calls are taken. Down, in
reverse: health says NOT_SERVING, nothing more is dispatched, streams end with UNAVAILABLE, unary calls finish within
the grace, hosts stop, the store closes. Runners are left running; the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from hypersdk.errors import from_exception

from hypersdk_kernel import __version__
from hypersdk_kernel.engine.auditkeeping import AuditKeeping, Kept
from hypersdk_kernel.engine.carbon import CarbonGate
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.engine.engine import Engine
from hypersdk_kernel.engine.firing import Firing
from hypersdk_kernel.engine.foreign import ForeignChanges
from hypersdk_kernel.engine.keeper import Keeper
from hypersdk_kernel.engine.leadership import Leadership
from hypersdk_kernel.engine.notifying import NotifierCalls
from hypersdk_kernel.engine.retention import Retention
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.engine.scheduler import Scheduler
from hypersdk_kernel.engine.schedules import Schedules
from hypersdk_kernel.engine.subscriptions import Subscriptions
from hypersdk_kernel.engine.unit import Api, Unit
from hypersdk_kernel.engine.vaults import Vaults
from hypersdk_kernel.events.bus import Bus
from hypersdk_kernel.events.delivery import Deliveries
from hypersdk_kernel.hosting import frametrace, restore
from hypersdk_kernel.hosting.confinement import Sandbox
from hypersdk_kernel.hosting.discovery import discover
from hypersdk_kernel.hosting.dropfolder import DropFolder
from hypersdk_kernel.hosting.foreign import HostCommands
from hypersdk_kernel.hosting.host_process import HostPolicy
from hypersdk_kernel.hosting.install import PluginStore, Sources
from hypersdk_kernel.hosting.ledger import KERNEL, Ledger
from hypersdk_kernel.hosting.lifecycle import Lifecycle
from hypersdk_kernel.hosting.probation import ProbationPolicy
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.removal import Removal
from hypersdk_kernel.hosting.router import Router
from hypersdk_kernel.hosting.sourcewatch import SourceWatcher
from hypersdk_kernel.hosting.stopped import StoppedHosts
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.hosting.swap import SwapPolicy
from hypersdk_kernel.hosting.trust import Trust
from hypersdk_kernel.hosting.watchdog import Bounds
from hypersdk_kernel.model.audit import AuditNote
from hypersdk_kernel.model.clock import Clock, SystemClock
from hypersdk_kernel.model.plugin import Plugin
from hypersdk_kernel.security.authn import Authenticator
from hypersdk_kernel.security.private import ensure_directory, write_private
from hypersdk_kernel.security.tokens import ensure_token
from hypersdk_kernel.server.auditing import Auditor
from hypersdk_kernel.server.config import Settings
from hypersdk_kernel.server.database import LOST_MARGIN_S, backend_of, place_of
from hypersdk_kernel.server.health import HealthService
from hypersdk_kernel.server.listeners import listen_tcp, listen_unix, make_server
from hypersdk_kernel.server.methods import Gate, routed_handlers, service_handlers
from hypersdk_kernel.server.notify import notify
from hypersdk_kernel.server.ownservices import OwnHandlers
from hypersdk_kernel.server.reflection import reflection_handlers
from hypersdk_kernel.server.remoting import make_remotes, server_names
from hypersdk_kernel.server.statedir import StateDir, claim
from hypersdk_kernel.server.streams import Streams
from hypersdk_kernel.server.validation import RequestValidator
from hypersdk_kernel.services.audit import AuditService
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.connections import ConnectionService
from hypersdk_kernel.services.events import EventService
from hypersdk_kernel.services.jobgroups import JobGroupService
from hypersdk_kernel.services.jobs import JobService
from hypersdk_kernel.services.operations import OperationsService
from hypersdk_kernel.services.plugins import Operators, PluginService
from hypersdk_kernel.services.pluginwatch import PluginWatcher
from hypersdk_kernel.services.policies import PolicyService
from hypersdk_kernel.services.queue import QueueService
from hypersdk_kernel.services.repeats import Repeats
from hypersdk_kernel.services.reports import ReportService
from hypersdk_kernel.services.schedules import ScheduleService
from hypersdk_kernel.services.scheduleviews import job_maker
from hypersdk_kernel.services.subscriptions import SubscriptionService
from hypersdk_kernel.services.system import KernelFacts, SystemService
from hypersdk_kernel.services.watch import JobWatcher
from hypersdk_kernel.store import plugins as plugin_rows
from hypersdk_kernel.store.auditarchive import AuditArchive
from hypersdk_kernel.store.engine import Store

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """The daemon from its start to SIGTERM or SIGINT. SIGHUP is ignored: there is nothing that could be read
    again."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with claim(settings.state_dir) as state:
        async with kernel(settings, state, SystemClock()) as facts:
            notify("READY=1")
            log.info("kernel_started", version=__version__, state_dir=str(state.path), addresses=list(facts.addresses))
            await stop.wait()
            notify("STOPPING=1")
            log.info("kernel_stopping", grace_s=settings.grace_s)
    log.info("kernel_stopped")


@contextlib.asynccontextmanager
async def kernel(settings: Settings, state: StateDir, clock: Clock) -> AsyncIterator[KernelFacts]:
    """A kernel that answers calls as long as the context is open."""
    facts = KernelFacts(state.path, settings.max_runners, clock.now(), clock.monotonic())
    async with contextlib.AsyncExitStack() as stack:
        if settings.trace_frames:
            path = None if settings.trace_frames == "-" else Path(settings.trace_frames)
            try:
                trace = frametrace.FrameTrace(path, clock.now)
            except OSError as exc:
                raise from_exception(exc, doing="trace_frames") from exc
            stack.enter_context(frametrace.install(trace))
        trees = [Path(path) for path in settings.plugin_paths]

        def find(now: float) -> list[Plugin]:
            return discover(now, trees=trees)

        backend = backend_of(settings, state)
        facts.store = backend.name
        found, store = await asyncio.gather(asyncio.to_thread(find, clock.now()), Store.open(backend, clock))
        stack.push_async_callback(store.close)
        auditor = Auditor(store, clock)
        stack.push_async_callback(auditor.close)
        trust = Trust.of(settings.plugin_keys, settings.require_signatures, settings.plugin_allow)
        builds = PluginStore(state.plugins, Sources(settings.plugin_wheels, settings.plugin_index), trust)
        registry = Registry(await _restored(found, store, builds, clock), clock.now)
        commands = HostCommands(settings.host_interpreters)
        hosts = HostPool(clock, registry.redact, _host_policy(settings, state, commands), builds.check)
        stack.push_async_callback(hosts.close, settings.grace_s)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(RuntimeError):  # not in the main thread, as in tests: the heartbeat finds them too
            loop.add_signal_handler(signal.SIGCHLD, StoppedHosts(hosts.processes).look)
            stack.callback(loop.remove_signal_handler, signal.SIGCHLD)
        ledger = Ledger(store, registry, clock)
        policy = SwapPolicy(probation=ProbationPolicy(settings.probation_s))
        lifecycle = Lifecycle(ledger, builds, registry, hosts, clock, policy, find)
        removal = Removal(lifecycle, ledger, builds, registry, hosts)
        stack.push_async_callback(lifecycle.close)
        connections = Connections(store, clock, registry, Vaults(registry, hosts, clock))
        runner_settings = RunnerSettings(
            settings.max_runners, settings.cancel_grace_s, settings.log_file_bytes, settings.log_files,
            confined=settings.sandbox == "enforce", traced=bool(settings.otlp_endpoint),
        )  # fmt: skip
        runs = settings.runs_dir or state.runs
        ensure_directory(runs)
        if store.shared:
            orphan_s = settings.runner_orphan_s
            runner_settings = replace(
                runner_settings, place=place_of(runs), orphan_s=orphan_s, lost_after_s=orphan_s * 1.25 + LOST_MARGIN_S
            )
        engine = Engine(store, clock, registry, connections, runs, runner_settings, builds.check, commands.of)
        dispatcher, jobs = engine.dispatcher, engine.jobs
        dispatcher.admission.gates.append(
            CarbonGate(store, clock, registry, hosts, dispatcher.persist, dispatcher.admission.reconsider)
        )
        if settings.runner_port:
            dispatcher.placing.remotes = make_remotes(settings, state, clock, registry, hosts, connections)
            stack.push_async_callback(dispatcher.placing.remotes.stop)
            await dispatcher.placing.remotes.start(settings.runner_host, settings.runner_port)
        validator = RequestValidator()
        firing = Firing(store, jobs, job_maker(validator.check))
        scheduler = Scheduler(store, clock, firing)
        store.on_foreign.append(ForeignChanges(dispatcher))
        engine.clock_watch.on_step.append(scheduler.clock_set)
        leadership = Leadership(store)
        leadership.add(engine)
        leadership.add(scheduler)
        bus = Bus(store)
        store.on_commit.append(bus.publish)
        notifiers = NotifierCalls(connections, registry, hosts, clock)
        deliveries = Deliveries(store.leading, clock, notifiers.send)
        store.on_commit.append(deliveries.publish)
        leadership.add(deliveries)
        kept = Kept(settings.audit_keep_rows, settings.audit_keep_s)
        leadership.add(AuditKeeping(store.leading, clock, AuditArchive(state.audit), kept))
        router = Router(registry, hosts, connections.resolve, connections.names)
        gate = _gate(settings, state, clock, auditor, validator)
        api = Api(f"unix:{state.socket}", gate.authenticator.mint, gate.authenticator.revoke)
        keeper = Keeper(connections, lambda name: Unit(name, registry, hosts, connections.resolve, api, clock))
        services: list[Service] = [
            JobService(jobs, JobWatcher(jobs, bus, settings.heartbeat_s), engine.explainer, dispatcher),
            JobGroupService(engine.groups),
            PolicyService(clock, engine.windows, engine.window_book, engine.limits),
            QueueService(clock, engine.control, dispatcher, jobs, engine.limits, engine.window_book),
            ConnectionService(connections, registry, hosts),
            PluginService(
                registry,
                hosts,
                Operators(lifecycle, removal, builds.staging, ledger.pin_counts),
                PluginWatcher(registry, hosts, ledger.pin_counts, bus, settings.heartbeat_s),
                keeper.status,
            ),
            ScheduleService(Schedules(store, clock, firing), validator.check),
            EventService(store, bus, settings.heartbeat_s),
            SubscriptionService(Subscriptions(store, clock), notifiers),
            AuditService(store, state.audit),
            ReportService(store, clock),
            SystemService(facts, clock, store, jobs, connections, registry, dispatcher),
            OperationsService(jobs, bus),
        ]
        metrics = None
        if settings.metrics_port:
            from hypersdk_kernel.server import measuring  # prometheus_client, for those who want metrics
            from hypersdk_kernel.server.metrics import Metrics

            metrics = Metrics()
            measuring.attach(metrics, store, deliveries)
        tracer = None
        if settings.otlp_endpoint:
            from hypersdk_kernel.server.otlp import Exporter
            from hypersdk_kernel.server.tracing import Tracer

            exporter = Exporter(settings.otlp_endpoint)
            stack.push_async_callback(exporter.close)
            exporter.start()
            tracer = Tracer(exporter, lambda uid, number: dispatcher.rundir(uid).attempt(number))
            stack.push_async_callback(tracer.close)
            hosts.on_call = tracer.host_called
            store.on_commit.append(tracer.publish)
        gate = replace(gate, metrics=metrics, tracer=tracer)
        handlers, health = _handlers(gate, services, router, Repeats(store, clock), registry)
        server = make_server(
            handlers, max_message_bytes=settings.max_message_bytes, max_streams=settings.max_streams
        )
        facts.addresses = _listen(server, settings, state, clock)
        if metrics is not None:
            measured = measuring.Measured(store, clock, dispatcher, registry, hosts, gate.streams, deliveries)
            scrapes = measuring.metrics_server(metrics, measured)
            stack.push_async_callback(scrapes.close)
            facts.addresses.append(f"http://127.0.0.1:{await scrapes.start(settings.metrics_port)}/metrics")
        await engine.load()
        stack.push_async_callback(leadership.stop)
        await leadership.start()
        await server.start()
        stack.push_async_callback(server.stop, settings.grace_s)
        stack.push_async_callback(_drain, health, dispatcher, scheduler, bus, gate.streams)
        store.on_commit.append(keeper.on_commit)
        stack.push_async_callback(keeper.close)
        keeper.start()
        retention = Retention(store, clock, runs, settings.log_retention_s)
        stack.push_async_callback(_cancelled, asyncio.create_task(retention.run()))
        dropped = DropFolder(
            state.dropped,
            lambda wheel: lifecycle.install(wheel, actor=KERNEL, activate=True, only_new=True, via="plugins.d"),
            lambda wheel, error: auditor.note(AuditNote(KERNEL, "plugins.d", wheel.name, error.reason)),
        )  # fmt: skip
        stack.push_async_callback(_cancelled, asyncio.create_task(dropped.run()))
        if settings.reload_editable:
            sources = SourceWatcher(
                registry.plugins,
                lambda: find(clock.now()),
                lambda plugin: lifecycle.reload(plugin, actor=KERNEL),
                removal.tidy,
                trees,
            )
            stack.push_async_callback(_cancelled, asyncio.create_task(sources.run()))
        yield facts


def _host_policy(settings: Settings, state: StateDir, commands: HostCommands) -> HostPolicy:
    bounds = Bounds(
        settings.host_memory_bytes, settings.host_open_files, settings.host_processes, settings.host_cpu_share
    )
    return HostPolicy(commands=commands, sandbox=Sandbox(settings.sandbox == "enforce", state.path), bounds=bounds)


async def _restored(found: list[Plugin], store: Store, builds: PluginStore, clock: Clock) -> list[Plugin]:
    remembered, numbers = await store.read(lambda conn: (plugin_rows.load(conn), plugin_rows.last_numbers(conn)))

    def merge() -> list[Plugin]:
        builds.prepare()
        builds.sweep(generation for plugin in remembered for generation in plugin.generations)
        return restore.merge(found, remembered, numbers, builds.load, clock.now())

    merged = await asyncio.to_thread(merge)
    await store.write(lambda tx: restore.write_changes(tx, merged))
    return merged


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _drain(
    health: HealthService, dispatcher: Dispatcher, scheduler: Scheduler, bus: Bus, streams: Streams
) -> None:
    health.drain()
    dispatcher.draining = True
    await scheduler.stop()
    bus.close()
    await streams.drain()


def _gate(settings: Settings, state: StateDir, clock: Clock, auditor: Auditor, validator: RequestValidator) -> Gate:
    return Gate(
        authenticator=Authenticator(ensure_token(state.token) if settings.tcp else None, clock),
        validator=validator,
        streams=Streams(settings.max_streams),
        call_timeout_s=settings.call_timeout_s,
        max_message_bytes=settings.max_message_bytes,
        auditor=auditor,
    )


def _handlers(
    gate: Gate, services: list[Service], router: Router, repeats: Repeats, registry: Registry
) -> tuple[list[grpc.GenericRpcHandler], HealthService]:
    routes = {(route.service, route.method): route for route in router.routes()}
    domain = sorted({service for service, _ in routes})
    names = [service.descriptor.full_name for service in services] + domain
    health = HealthService(names)

    def answer(service: str, method: str) -> Callable[[Any, Call], Awaitable[Message]]:
        route = routes[service, method]
        return lambda request, call: repeats.answer(
            request, call, route.response_class, lambda: router.call(route, request, call.timeout_s)
        )

    handlers = [service_handlers(gate, service) for service in [*services, health]]
    for name in domain:
        descriptor = descriptor_pool.Default().FindServiceByName(name)
        handlers.append(routed_handlers(gate, descriptor, lambda method, name=name: answer(name, method)))  # type: ignore[misc]
    own = OwnHandlers(gate, registry, router)
    live = own.live
    health.live = lambda: [name for _, found in live() for name in found.services]
    handlers.append(
        reflection_handlers(gate, [*names, health.descriptor.full_name], lambda: [found for _, found in live()])
    )
    handlers.append(own)
    return handlers, health


def _listen(server: grpc.aio.Server, settings: Settings, state: StateDir, clock: Clock) -> list[str]:
    addresses = [listen_unix(server, state.socket)]
    if settings.tcp:
        from hypersdk_kernel.security.tls import ensure_tls  # 0.1 s of cryptography, for those who want TCP

        material = ensure_tls(state.path, server_names(settings), clock.now())
        addresses.append(listen_tcp(server, settings.tcp_host, settings.tcp_port, material))
        write_private(state.address, f"{addresses[-1]}\n".encode())
    return addresses
