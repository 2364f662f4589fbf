"""The router beside nginx: requests per second, added latency, alias moves, and what a large table costs."""

import asyncio
import hashlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slipway_kit.ids import new_id
from slipway_schemas.inference.routing import Backend, Route, RouteKey
from slipway_testing.alias_moves import Move, requests_at
from slipway_testing.neighbours.routing import RoutingNeighbour
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.ports import unused_port
from slipway_testing.router_process import RouterProcess, running_router
from slipway_testing.tools import find_tool
from slipway_testing.wire import Wire
from tests.bench.harness import Line, Options, Result, Series, SkippedError, compare, spin

ALIAS = "/ann/digits/model/production/greet"
KEY = "bench"
_MIB = 1024**2
_LATENCY = re.compile(r"50%\s+([\d.]+)(us|ms|s)\b")
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}
_NGINX = """
daemon off; pid {home}/nginx.pid; error_log {home}/nginx.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  keepalive_requests 10000000;
  upstream model {{ server 127.0.0.1:{server}; keepalive 64; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@dataclass(frozen=True)
class _Bed:
    builder: RoutingNeighbour
    builder_url: str
    home: Path
    server_port: int

    def backend(self, version: str) -> Backend:
        return Backend(host="127.0.0.1", port=self.server_port, version=version, version_id=new_id())

    def route(self, prefix: str, *backends: Backend) -> Route:
        return Route(prefix=prefix, deployment_id=self.builder.target_id, endpoint="greet", backends=backends)

    def router(self, engine: str, home: str = "", **extra: str) -> AbstractAsyncContextManager[RouterProcess]:
        return running_router(
            self.builder, self.builder_url, self.home / (home or engine), engine, threads="1", **extra
        )


async def router_rate(options: Options) -> Result:
    """Requests per second over 16 connections, and what one request takes longer than without a proxy."""
    seconds = 2 if options.quick else 5
    result = Result(
        "router-rate",
        "the same small answer of the same server through the router (key checked, prefix set, version named, one "
        "HAProxy thread), through nginx as a plain reverse proxy with one worker, and through the relay; wrk over 16 "
        "connections, then over one",
    )
    _need("haproxy", "nginx", "wrk")
    async with AsyncExitStack() as stack:
        bed = await stack.enter_async_context(_bed())
        haproxy = await stack.enter_async_context(bed.router("haproxy"))
        relay = await stack.enter_async_context(bed.router("relay"))
        nginx = await stack.enter_async_context(_nginx(bed))
        ports = (haproxy.port, nginx, relay.port, bed.server_port)
        many = await compare(result, [partial(_wrk, port, 16, seconds, _RATE) for port in ports], options.rounds)
        one = await compare(result, [partial(_wrk, port, 1, seconds, _LATENCY) for port in ports], options.rounds)
    ours, peer, other, direct = many
    result.lines.append(Line("router, 16 connections", "per s", ours, "nginx", peer))
    result.lines.append(Line("relay, 16 connections", "per s", other, "nginx", peer))
    ours, peer, other, straight = one
    result.lines.append(Line("router adds, p50", "us", _minus(ours, straight), "nginx adds", _minus(peer, straight)))
    result.lines.append(Line("relay adds, p50", "us", _minus(other, straight), "nginx adds", _minus(peer, straight)))
    result.notes.append(f"Without a proxy: {direct.median:,.0f} per s, p50 {straight.median:.0f} us.")
    result.notes.append("Goals: the router at least 0.6 of nginx, and at most 150 us added at p50.")
    return result


async def router_moves(options: Options) -> Result:
    """Alias moves while requests come at a fixed rate: when the old version has answered for the last time."""
    moves, rate = (50, 500) if options.quick else (1000, 2000)
    result = Result(
        "router-moves",
        f"{moves:,} moves of one alias while {rate:,} requests per s come in, half on new connections; from the call "
        "at the builder to the last answer of the old version",
    )
    _need("haproxy")
    result.notes.append("Goals: p99 of the last answer of the old version at most 30 ms, no request failed.")
    for engine in ("haproxy", "relay"):
        async with _bed() as bed, bed.router(engine) as router:
            result.spins.append(spin())
            await _measure_moves(result, engine, bed, router, moves, rate)
    return result


async def router_table(options: Options) -> Result:
    """Memory of 5,000 deployments with two names each, and whether a request is slower for them."""
    _need("haproxy", "wrk")
    result = Result("router-table", "5,000 deployments with two names each in the table, against one deployment")
    seconds = 1 if options.quick else 3
    async with AsyncExitStack() as stack:
        bed = await stack.enter_async_context(_bed())
        small = await stack.enter_async_context(bed.router("haproxy", "small"))
        empty = small.memory_bytes()
        other_bed = await stack.enter_async_context(_bed())
        many = [
            other_bed.route(f"/owner-{number % 50}/project/deployment-{number}/{name}/greet", other_bed.backend("v1"))
            for number in range(5_000)
            for name in ("20260101.0", "production")
        ]
        other_bed.builder.put(*many)
        large = await stack.enter_async_context(other_bed.router("haproxy", "large"))
        await asyncio.sleep(1)
        full = large.memory_bytes()
        few, all_of_them = await compare(
            result,
            [lambda: _wrk(small.port, 1, seconds, _LATENCY), lambda: _wrk(large.port, 1, seconds, _LATENCY)],
            options.rounds,
        )
        took = []
        for number in range(20):
            began = time.perf_counter()
            revision = other_bed.builder.put(other_bed.route(ALIAS, other_bed.backend(f"v{number}")))
            await other_bed.builder.confirmed(large.router_id, revision)
            took.append((time.perf_counter() - began) * 1000)
    result.lines.append(Line("memory that 10,000 routes add", "MiB", Series(((full - empty) / _MIB,))))
    result.lines.append(Line("request, p50", "us", all_of_them, "one deployment", few))
    result.lines.append(Line("move of an alias until confirmed", "ms", Series(tuple(took))))
    result.notes.append(f"Router and HAProxy with one deployment: {empty / _MIB:.0f} MiB.")
    result.notes.append("Goals: less than 50 MB more, and no difference in the time of a request.")
    return result


async def _measure_moves(result: Result, engine: str, bed: _Bed, router: RouterProcess, moves: int, rate: int) -> None:
    versions = [bed.backend("v1"), bed.backend("v2")]
    await bed.builder.confirmed(router.router_id, bed.builder.put(bed.route(ALIAS, versions[1])))
    pause = 0.04
    done: list[Move] = []
    async with requests_at("127.0.0.1", router.port, f"{ALIAS}/x", rate, KEY) as load:
        await asyncio.sleep(0.5)
        for number in range(moves):
            called = time.monotonic()
            target = versions[number % 2]
            await bed.builder.confirmed(router.router_id, bed.builder.put(bed.route(ALIAS, target)))
            done.append(Move(called, time.monotonic(), target.version))
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - called)))
        await asyncio.sleep(0.2)
        report = await load.report(done)
    result.lines.append(Line(f"{engine}: last answer of the old version, p99", "ms", Series((report.p99,))))
    result.lines.append(Line(f"{engine}: confirmed, p50", "ms", Series((statistics.median(report.confirmed),))))
    result.notes.append(f"{engine}: {report}.")


@asynccontextmanager
async def _bed() -> AsyncIterator[_Bed]:
    port = unused_port()
    builder = RoutingNeighbour()
    key_hash = hashlib.sha256(KEY.encode()).hexdigest()
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.router_server", str(port))
    try:
        with tempfile.TemporaryDirectory(prefix="slipway-bench-router-") as home:
            async with ServedApp(builder.app) as app:
                bed = _Bed(builder, app.url, Path(home), port)
                builder.put(
                    bed.route(ALIAS, bed.backend("v1")),
                    RouteKey(key_id=new_id(), key_hash=key_hash, deployment_id=builder.target_id, consumer="bench"),
                )
                await _until_listening(port)
                yield bed
    finally:
        server.kill()
        await server.wait()


@asynccontextmanager
async def _nginx(bed: _Bed) -> AsyncIterator[int]:
    port, home = unused_port(), bed.home / "nginx"
    home.mkdir()
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(home=home, server=bed.server_port, port=port))
    nginx = await asyncio.create_subprocess_exec(
        find_tool("nginx") or "nginx", "-c", str(config), "-e", str(home / "nginx.log")
    )
    try:
        await _until_listening(port)
        yield port
    finally:
        with suppress(ProcessLookupError):
            nginx.terminate()
        await nginx.wait()


async def _wrk(port: int, connections: int, seconds: int, what: re.Pattern[str]) -> float:
    """Requests per second, or the median latency in microseconds."""
    wrk = await asyncio.create_subprocess_exec(
        find_tool("wrk") or "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
        "-H", f"X-Api-Key: {KEY}", f"http://127.0.0.1:{port}{ALIAS}/x", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = (await wrk.communicate())[0].decode()
    found = what.search(said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk could not measure port {port}: {said}")
    return float(found[1]) * (_MICROSECONDS[found[2]] if what is _LATENCY else 1.0)


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                async with Wire(port):
                    return
            except OSError:
                await asyncio.sleep(0.02)


def _minus(series: Series, base: Series) -> Series:
    return Series(tuple(one - other for one, other in zip(series.values, base.values, strict=True)))


def _need(*tools: str) -> None:
    for tool in tools:
        if not find_tool(tool):
            raise SkippedError(f"{tool} is not installed; apt-get install {tool}")
