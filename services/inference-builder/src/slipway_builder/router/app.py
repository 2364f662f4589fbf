"""A router from its settings to its end."""

import asyncio
import gc
import signal
import socket

from slipway_builder.router.builder_client import BuilderClient
from slipway_builder.router.control import Control
from slipway_builder.router.counting import RequestCounts
from slipway_builder.router.engines.haproxy import HaproxyEngine, find_haproxy
from slipway_builder.router.engines.protocol import Engine
from slipway_builder.router.engines.relay import RelayEngine
from slipway_builder.router.health import HealthServer
from slipway_builder.router.settings import RouterSettings
from slipway_builder.router.table import RoutingTable
from slipway_kit.logging import get_logger

_LOG = get_logger()


class StartError(Exception):
    """The router cannot start; the message says why and what to do."""


async def run_router(settings: RouterSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `StartError`."""
    _prepare(settings)
    with _bind(settings.host, settings.port) as listener:
        table, counts = RoutingTable(), RequestCounts()
        engine = make_engine(settings, table, listener, counts)
        client = BuilderClient(settings.builder_url, settings.token_file)
        control = Control(settings, table, engine, counts, client)
        health = HealthServer(control, engine, counts)
        try:
            await health.start(settings.health_host, settings.health_port)
        except OSError as error:
            raise _taken(settings.health_host, settings.health_port, "HEALTH_PORT", error) from error
        # What is there now stays: each look through all of it holds requests up for 30 ms.
        gc.collect()
        gc.freeze()
        work = asyncio.create_task(control.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        _LOG.info("router_started", engine=engine.name, port=settings.port, health_port=settings.health_port)
        try:
            await work
        except asyncio.CancelledError:
            _LOG.info("router_stops")
        finally:
            health.close()
            client.close()
            await engine.close()


def make_engine(
    settings: RouterSettings, table: RoutingTable, listener: socket.socket, counts: RequestCounts
) -> Engine:
    """The engine that the settings name. Raises `StartError` when it is not installed."""
    installed = find_haproxy() is not None
    if settings.engine == "haproxy" and not installed:
        raise StartError("haproxy is not installed; apt-get install haproxy, or set SLIPWAY_ROUTER__ENGINE=relay.")
    if settings.engine != "relay" and installed:
        return HaproxyEngine(settings, table, listener, counts.feed)
    return RelayEngine(settings, table, listener, counts.feed)


def _prepare(settings: RouterSettings) -> None:
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartError(f"The state directory {settings.state_dir} cannot be made: {error.strerror}.") from error


def _bind(host: str, port: int) -> socket.socket:
    """Reserve the port. Nobody listens yet: until there is a table, connections are refused."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _taken(host, port, "PORT", error) from error
    listener.setblocking(False)
    return listener


def _taken(host: str, port: int, setting: str, error: OSError) -> StartError:
    return StartError(
        f"The router cannot listen on {host}:{port}: {error.strerror}. Stop what uses the port, or set another "
        f"SLIPWAY_ROUTER__{setting}."
    )
