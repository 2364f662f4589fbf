"""What a worker holds while it runs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge

from slipway_kit.clock import SystemClock
from slipway_kit.errors import Unavailable
from slipway_kit.transfer import transfer_session
from slipway_runtime.runtimes.docker import DockerRuntime
from slipway_runtime.runtimes.docker_network import OWN_NETWORK
from slipway_runtime.runtimes.fake import FakeRuntime
from slipway_runtime.runtimes.process import ProcessRuntime
from slipway_runtime.runtimes.protocol import ContainerRuntime, RuntimeInfo
from slipway_schemas.workers import WorkerRegister
from slipway_worker.agent.agent import WorkerAgent
from slipway_worker.agent.attempts import AttemptTable, home_paths
from slipway_worker.agent.scheduler_client import SchedulerClient
from slipway_worker.attempts.services import AttemptServices
from slipway_worker.cache.input_cache import InputCache
from slipway_worker.machine.capacity import find_gpus, machine_capacity
from slipway_worker.machine.disk import Disk
from slipway_worker.machine.identity import addresses, machine_id
from slipway_worker.machine.preemption import PreemptionWatch, notice_source
from slipway_worker.settings import RuntimeName, WorkerSettings
from slipway_worker.shim.client import ZygoteClient


@dataclass(frozen=True)
class WorkerContext:
    """The parts of a running worker."""

    settings: WorkerSettings
    agent: WorkerAgent
    attempts: AttemptTable
    runtime: ContainerRuntime
    preemption: PreemptionWatch | None
    registry: CollectorRegistry

    async def check_runtime(self) -> None:
        """Raise `Unavailable` when runs cannot be started here."""
        info = await self.runtime.check()
        if not info.available:
            raise Unavailable(info.reason)

    async def check_sync(self) -> None:
        """Raise `Unavailable` while the scheduler has not answered."""
        if not self.agent.synced:
            raise Unavailable("The scheduler has not answered this worker.")


@asynccontextmanager
async def open_context(settings: WorkerSettings) -> AsyncIterator[WorkerContext]:
    """Open everything; raises `Unavailable` when the runtime that the settings name cannot be used."""
    home = settings.home
    home_paths(home)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        runtime, info = await _runtime(settings)
        stack.push_async_callback(runtime.aclose)
        transfers = await stack.enter_async_context(transfer_session())
        zygote = ZygoteClient(home / "zygote.sock")
        if runtime.launcher is None:
            await zygote.ensure()
        gpus = await find_gpus()
        capacity = machine_capacity(settings.slots, settings.cpus, settings.memory_bytes, gpus)
        wake = asyncio.Event()
        cache = InputCache(
            home / "cache", settings.cache.max_bytes, settings.cache.high_water, settings.cache.low_water
        )
        own_addresses = addresses()
        disk = Disk(home, settings.disk)
        services = AttemptServices(
            settings=settings,
            clock=clock,
            runtime=runtime,
            zygote=zygote,
            cache=cache,
            disk=disk,
            transfers=transfers,
            hostname=socket.gethostname(),
            addresses=own_addresses,
            wake=wake.set,
        )
        scheduler = SchedulerClient(settings.server_url, settings.group_token_file, home)
        stack.push_async_callback(scheduler.close)
        attempts = AttemptTable(services, clock, capacity, gpus)
        who = WorkerRegister(
            machine_id=machine_id(home),
            hostname=services.hostname,
            agent_version=version("slipway-worker-agent"),
            runtime=runtime.name,
            runtime_version=info.version,
            capacity=capacity,
            gpus=gpus,
            addresses=own_addresses,
        )
        agent = WorkerAgent(scheduler, attempts, wake, lambda: who, clock, disk, cache)
        preemption = settings.preemption
        source = notice_source(preemption.provider, preemption.endpoint, preemption.poll_seconds, clock)
        watch = None
        if source is not None:
            stack.push_async_callback(source.aclose)
            watch = PreemptionWatch(source, agent.preempt)
        yield WorkerContext(settings, agent, attempts, runtime, watch, _metrics(attempts))


async def _runtime(settings: WorkerSettings) -> tuple[ContainerRuntime, RuntimeInfo]:
    names: tuple[RuntimeName, ...] = ("docker", "process") if settings.runtime == "auto" else (settings.runtime,)
    reason = ""
    for name in names:
        runtime = _make_runtime(name, settings)
        info = await runtime.check()
        if info.available:
            return runtime, info
        await runtime.aclose()
        reason = info.reason
    raise Unavailable(f"No attempt can be run on this machine: {reason}")


def _make_runtime(name: RuntimeName, settings: WorkerSettings) -> ContainerRuntime:
    match name:
        case "docker":
            container = settings.container
            own_network = container.network == OWN_NETWORK
            return DockerRuntime(container.socket, own_network=own_network, userns=container.userns)
        case "fake":
            return FakeRuntime()
        case _:
            return ProcessRuntime(settings.home, hidden=settings.hidden_paths)


def _metrics(attempts: AttemptTable) -> CollectorRegistry:
    registry = CollectorRegistry()
    held = Gauge("slipway_worker_attempts", "Attempts that this worker has.", registry=registry)
    held.set_function(lambda: float(len(attempts.reports())))
    free = Gauge("slipway_worker_free_slots", "Slots that are free.", registry=registry)
    free.set_function(lambda: float(attempts.free().slots))
    return registry
