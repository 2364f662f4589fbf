"""The one way to run: a `ServiceSpec` says what a service is, the `Supervisor` runs one or several."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp

from slipway_kit.background import BackgroundTask, keep_running
from slipway_kit.health import HealthApp, ReadyCheck
from slipway_kit.logging import get_logger
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.servers import STOPPING, BindError, Hosted, LoopServer, bind, make_server
from slipway_kit.settings import ServiceSettings
from slipway_kit.tasks import cancel_and_wait

__all__ = [
    "Apps",
    "BackgroundTask",
    "BindError",
    "ReadyCheck",
    "ServiceSpec",
    "Supervisor",
    "stopping_event",
]

S = TypeVar("S", bound=ServiceSettings)
C = TypeVar("C")

DRAIN_SECONDS = 10
_LOG = get_logger()


@dataclass(frozen=True)
class Apps:
    """The ASGI apps of a service, by who may reach them; each is served where settings give it a port."""

    public: ASGIApp | None = None
    workers: ASGIApp | None = None
    internal: ASGIApp | None = None


@dataclass(frozen=True)
class ServiceSpec(Generic[S, C]):
    """All that the supervisor needs to run a service.

    `context` opens what the service holds (clients, pools) and closes it; the rest is made from it.
    `metrics` may return the `ServiceMetrics` that the service made, or a bare registry, for which they are
    then made. `schema_apps` builds the same apps without a context, for printing their OpenAPI.
    """

    name: str
    settings: type[S]
    context: Callable[[S], AbstractAsyncContextManager[C]]
    apps: Callable[[C], Apps]
    background: Callable[[C], Sequence[BackgroundTask]]
    ready: Callable[[C], Sequence[ReadyCheck]]
    metrics: Callable[[C], CollectorRegistry | ServiceMetrics]
    schema_apps: Callable[[], Apps] | None = None


@dataclass(frozen=True)
class _Opened:
    spec: ServiceSpec[Any, Any]
    settings: ServiceSettings
    context: Any
    metrics: ServiceMetrics


@dataclass(frozen=True)
class _Served:
    server: LoopServer
    hosted: Hosted
    task: asyncio.Task[None]


class Supervisor:
    """Runs services in one event loop, and stops them in reverse order.

    `ports[service][app]` tells where each app listens, also when its port setting was 0;
    `contexts[service]` is the open context of each service.
    """

    def __init__(self, entries: Sequence[tuple[ServiceSpec[Any, Any], ServiceSettings]]) -> None:
        self._entries = entries
        self._stopping = asyncio.Event()
        self.ports: dict[str, dict[str, int]] = {}
        self.contexts: dict[str, Any] = {}

    def request_stop(self) -> None:
        """Make `run` stop everything and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `request_stop`; requests have 10 s to end.

        Raises `BindError` when a port is taken, and whatever a context raises when it opens.
        """
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.request_stop)
        try:
            async with self.running():
                # What is there now stays: each look through all of it holds requests up for 100 ms.
                gc.collect()
                gc.freeze()
                await self._stopping.wait()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Supervisor"]:
        """Run everything inside the block, without touching signals: contexts, servers, then tasks."""
        async with AsyncExitStack() as stack:
            opened = [await self._open(stack, spec, settings) for spec, settings in self._entries]
            served: list[_Served] = []
            stack.push_async_callback(self._stop_servers, served)
            for one in opened:
                await self._serve(one, served)
            tasks: list[asyncio.Task[None]] = []
            stack.push_async_callback(self._stop_background, tasks)
            for one in opened:
                tasks.extend(
                    asyncio.create_task(
                        keep_running(task, one.spec.name, one.metrics), name=f"{one.spec.name}:{task.name}"
                    )
                    for task in one.spec.background(one.context)
                )
            _LOG.info("services_started", services=[one.spec.name for one in opened], ports=self.ports)
            try:
                yield self
            finally:
                self._stopping.set()

    async def _open(self, stack: AsyncExitStack, spec: ServiceSpec[Any, Any], settings: ServiceSettings) -> _Opened:
        context = await stack.enter_async_context(spec.context(settings))
        self.contexts[spec.name] = context
        found = spec.metrics(context)
        metrics = found if isinstance(found, ServiceMetrics) else ServiceMetrics(found, spec.name)
        return _Opened(spec, settings, context, metrics)

    async def _serve(self, one: _Opened, served: list[_Served]) -> None:
        apps, http = one.spec.apps(one.context), one.settings.http
        internal = HealthApp(apps.internal, one.spec.ready(one.context), one.metrics.registry, self._stopping)
        ports = self.ports.setdefault(one.spec.name, {})
        wanted: tuple[tuple[str, ASGIApp | None, int | None], ...] = (
            ("internal", internal, http.internal_port),
            ("workers", apps.workers, http.workers_port),
            ("public", apps.public, http.public_port),
        )
        for name, app, port in wanted:
            if app is None or port is None:
                continue
            listener = bind(http.host, port, f"{name} ({one.spec.name})")
            ports[name] = listener.getsockname()[1]
            hosted = Hosted(app, one.spec.name, self._stopping)
            server = make_server(hosted, DRAIN_SECONDS)
            task = asyncio.create_task(server.serve([listener]), name=f"{one.spec.name}:{name}")
            task.add_done_callback(lambda _: self._stopping.set())
            served.append(_Served(server, hosted, task))

    async def _stop_servers(self, served: list[_Served]) -> None:
        self._stopping.set()
        for one in served:
            one.server.stop()
            one.hosted.end_streams()
        if not served:
            return
        _, late = await asyncio.wait([one.task for one in served], timeout=DRAIN_SECONDS + 2)
        for task in late:
            await cancel_and_wait(task)
        for one in served:
            if not one.task.cancelled() and (error := one.task.exception()) is not None:
                raise error

    async def _stop_background(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping.set()
        if tasks:
            await asyncio.wait([asyncio.create_task(cancel_and_wait(task)) for task in tasks], timeout=DRAIN_SECONDS)
        for task in tasks:
            if not task.done():
                _LOG.error("background_task_did_not_stop", task=task.get_name())


def stopping_event(connection: HTTPConnection) -> asyncio.Event:
    """Return the event that is set when the process starts to stop; held requests answer then.

    Outside the supervisor (an app called in process by a test) it is an event that is never set.
    """
    event = connection.scope.get(STOPPING)
    return event if isinstance(event, asyncio.Event) else asyncio.Event()
