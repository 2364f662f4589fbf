"""Requests from outside of the cluster pass its ingress and the shipped routers; aliases move under them."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest

from slipway_testing.alias_moves import Move, requests_at
from slipway_testing.forwarding import Forwarding
from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.kubernetes.ingress import PORT
from slipway_testing.pods import pod_project, small_project
from slipway_testing.registries import Registry
from slipway_testing.wire import Wire, request
from tests.api.builder.harness import RunningBuilder, Start, plain_logs, start, template_database
from tests.cluster.routers import PUBLIC_NAME, ROUTER_PORT, ROUTERS, Routers, is_ready, restarts
from tests.cluster.test_inference import READY_SECONDS, inference_registry, new_key, target_of

__all__ = ["inference_registry", "plain_logs", "start", "template_database"]

pytestmark = [
    pytest.mark.timeout(1200),  # the routers' image is made first
    pytest.mark.kubernetes,
    pytest.mark.registry,
    pytest.mark.docker,
    pytest.mark.haproxy,
]

FULL = os.environ.get("SLIPWAY_CHAOS") == "full"
MOVES = 200 if FULL else 20
BOUND_MS = 100.0 if FULL else 1000.0
"""Until the last answer of the old version, of 99 % of the moves; a machine that runs all tests at once is busy."""
REQUESTS_PER_SECOND = 500
PAUSE_SECONDS = 0.15
SIZE = 32 * 1024 * 1024
AWAY_SECONDS = 6.0
"""A router that starts would have given up waiting for its builder, if it had a table of its last life."""


@dataclass
class Site:
    """A deployment whose requests come in by the ingress."""

    builder: RunningBuilder
    builder_way: Forwarding
    """How routers reach the builder."""
    routers: Routers
    image: str
    deployment_id: UUID
    key: str
    client: httpx.AsyncClient

    def path(self, name: str) -> str:
        """Of a version or an alias."""
        return f"/acme/iris/main/{name}/greet"

    async def version(self, word: str, commit: str = "pods") -> dict[str, str]:
        """A version that serves."""
        command = f"python3 server.py 8000 {word}"
        made = await self.builder.version(self.deployment_id, commit=commit, image=self.image, command=command)
        await self.builder.until(made["id"], "AVAILABLE", READY_SECONDS)
        return made

    async def move(self, version: dict[str, str]) -> Move:
        """Point `production` at a version."""
        return await self.builder.move(self.deployment_id, version)

    async def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        """With the deployment's key unless another one is given, `""` = none."""
        key = self.key if key is None else key
        shown = {"X-Api-Key": key} if key else {}
        return await self.client.get(path, headers={"Host": PUBLIC_NAME, **shown, **headers})

    async def until(self, path: str, status: int) -> None:
        """Wait until requests are answered so."""
        async with asyncio.timeout(READY_SECONDS):
            while (await self.get(path)).status_code != status:
                await asyncio.sleep(0.1)

    async def served_by(self, pod: dict[str, object]) -> str | None:
        """The version that `production` means to one router, asked past the ingress."""
        status = pod["status"]
        assert isinstance(status, dict)
        async with Wire(ROUTER_PORT, host=status["podIP"]) as wire:
            answer = await wire.get(self.path("production"), f"X-Api-Key: {self.key}")
        return answer.header("x-slipway-version")


@pytest.fixture
def routers(ingress: Cluster, kubernetes_cluster: Kubectl, namespace: str) -> Routers:
    return Routers(ingress, kubernetes_cluster, namespace)


@asynccontextmanager
async def site_of(start: Start, routers: Routers, registry: Registry) -> AsyncIterator[Site]:
    """A builder of this machine with the cluster as its target, routers in the cluster, one deployment."""
    target = target_of(routers.kubectl, routers.namespace, registry, ("append",))
    async with start(target=target) as builder:
        builder.gateway.add_commit("pods", pod_project())
        builder.gateway.add_commit("small", small_project())
        deployment = await builder.deployment()
        async with (
            Forwarding(routers.client_address, int(builder.url.rpartition(":")[2].rstrip("/"))) as way,
            httpx.AsyncClient(base_url=routers.url, timeout=30) as client,
        ):
            await asyncio.to_thread(routers.deploy, way.url, builder.target_id, builder.router_token)
            image = f"{registry.host}/bases/python:bookworm"
            key = await new_key(builder, deployment)
            yield Site(builder, way, routers, image, deployment, key, client)


async def test_requests_pass_both_kinds_of_ingress_as_they_are(
    start: Start, routers: Routers, inference_registry: Registry
) -> None:
    async with site_of(start, routers, inference_registry) as site:
        first = await site.version("one")
        await site.move(first)
        for file in ("ingress", "gateway-route"):
            await asyncio.to_thread(routers.open, file)
            await site.until(site.path("production"), 200)
            async with asyncio.timeout(READY_SECONDS):
                await _names_and_keys(site, first["name"])
                await _headers(site)
                await _streams(site)
                await _large_bodies(site)
            await asyncio.to_thread(routers.shut, file)
            async with asyncio.timeout(READY_SECONDS):
                while "endpoint_not_found" in (await site.get("/nothing")).text:
                    await asyncio.sleep(0.1)


async def _names_and_keys(site: Site, version: str) -> None:
    for name in (version, "production"):
        path = f"{site.path(name)}/echo?x=1"
        answer = await site.get(path)
        assert (answer.status_code, answer.headers["X-Slipway-Version"]) == (200, version)
        assert (answer.json()["pod"], answer.json()["target"]) == ("one", path)
        assert (await site.get(path, key="")).status_code == 401
        assert (await site.get(path, key="wrong")).status_code == 403
    assert (await site.get(site.path("nothing"))).json()["code"] == "endpoint_not_found"


async def _headers(site: Site) -> None:
    forged = {"X-VH-Prefix": "/evil", "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "Forwarded": "for=6"}
    answer = await site.get(f"{site.path('production')}/echo", **forged)
    seen = [(name, value) for name, value in answer.json()["headers"]]
    assert [value for name, value in seen if name == "x-vh-prefix"] == [f"{site.path('production')}/"]
    addresses = ", ".join(value for name, value in seen if name == "x-forwarded-for")
    assert addresses == f"{site.routers.client_address}, {site.routers.ingress_address}"
    assert [value for name, value in seen if name == "x-forwarded-proto"] == ["http"]
    assert [value for name, value in seen if name == "host"] == [PUBLIC_NAME]
    assert not any(name == "x-api-key" or site.key in value for name, value in seen)


async def _streams(site: Site) -> None:
    shown = f"X-Api-Key: {site.key}"
    async with site.routers.wire() as wire:
        await wire.send(request("GET", f"{site.path('production')}/events", shown))
        status, _ = await wire.head()
        began = time.monotonic()
        wanted, events, chunks = b"".join(b"data: %d\n\n" % number for number in range(5)), b"", 0
        while len(events) < len(wanted):
            events += await wire.chunk()
            chunks += 1
        assert (status, events) == (200, wanted)
        assert chunks > 1, "events come as they are made"
        assert time.monotonic() - began > 0.1, "events come as they are made"
    async with site.routers.wire() as wire:
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        await wire.send(request("GET", f"{site.path('production')}/ws", shown, *upgrade, key))
        status, headers = await wire.head()
        assert (status, dict(headers)["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        for word in (b"there", b"and back"):
            await wire.send(word)
            assert await wire.reader.readexactly(len(word)) == word


async def _large_bodies(site: Site) -> None:
    content = os.urandom(2**20) * (SIZE // 2**20)
    url, headers = f"{site.path('production')}/echo", {"Host": PUBLIC_NAME, "X-Api-Key": site.key}
    answer = (await site.client.post(url, content=content, headers=headers)).json()
    assert (answer["body_bytes"], answer["body_sha256"]) == (SIZE, hashlib.sha256(content).hexdigest())
    assert len((await site.get(f"{site.path('production')}/bytes-{SIZE}")).content) == SIZE


async def test_aliases_move_under_load_and_killed_routers_come_back_with_the_truth(
    start: Start, routers: Routers, inference_registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    async with site_of(start, routers, inference_registry) as site:
        versions = [await site.version("one", "small"), await site.version("two", "small")]
        await site.move(versions[0])
        await asyncio.to_thread(routers.open, "ingress")
        await site.until(site.path("production"), 200)
        (killed, *_) = await asyncio.to_thread(routers.until_ready)
        address, path = routers.cluster.network.node, f"{site.path('production')}/echo"
        # The ingress answers 502 where it had kept a connection to the router that is gone.
        for when, lost in (("both there", 0), ("one killed a moment ago", 5)):
            moves: list[Move] = []
            async with requests_at(address, PORT, path, REQUESTS_PER_SECOND, site.key) as load:
                for number in range(MOVES // 2):
                    await asyncio.sleep(PAUSE_SECONDS)
                    moves.append(await site.move(versions[(number + 1) % 2]))
                await asyncio.sleep(0.3)
                report = await load.report(moves)
            with capsys.disabled():
                print(f"\ncluster, {ROUTERS} routers behind the ingress, {when}: {report}")
            assert len(report.failures) <= lost
            assert report.sent > MOVES
            assert report.late == 0
            assert report.p99 < BOUND_MS
            if not lost:
                # Requests that it has taken are lost with it, so it is killed while there are none.
                await asyncio.to_thread(routers.kill, killed)

        back = await asyncio.to_thread(routers.until_ready)
        assert [restarts(one) for one in back if one["metadata"]["name"] == killed["metadata"]["name"]] == [1]
        assert {await site.served_by(one) for one in back} == {moves[-1].version}
        await _new_routers_wait_for_the_truth(site, versions)


async def _new_routers_wait_for_the_truth(site: Site, versions: list[dict[str, str]]) -> None:
    """While routers cannot reach the builder, a new one gets no requests and the other serves on."""
    routers, path = site.routers, site.path("production")
    gone, *_ = await asyncio.to_thread(routers.until_ready)
    names = {one["metadata"]["name"] for one in await asyncio.to_thread(routers.pods)}
    await site.builder_way.stop()
    await asyncio.to_thread(routers.delete, gone)
    new, until = [], time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until or not new:
        new = [one for one in await asyncio.to_thread(routers.pods) if one["metadata"]["name"] not in names]
        assert not any(is_ready(one) for one in new)
        assert (await site.get(path)).status_code == 200
    moved = await site.move(versions[0])
    await site.builder_way.start()
    both = await asyncio.to_thread(routers.until_ready)
    assert {await site.served_by(one) for one in both} == {moved.version}
    assert (await site.get(path)).headers["X-Slipway-Version"] == moved.version
