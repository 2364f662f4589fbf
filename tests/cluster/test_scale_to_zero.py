"""Endpoints that sleep while nobody asks, by a real KEDA, and what a cluster without it says."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest

from slipway_schemas.inference.versions import AliasMove, EndpointChange, Scale
from slipway_testing.forwarding import Forwarding
from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.pods import pod_project
from slipway_testing.registries import Registry
from tests.api.builder.harness import RunningBuilder, Start, plain_logs, start, template_database
from tests.cluster.routers import PUBLIC_NAME, Routers
from tests.cluster.test_inference import READY_SECONDS, inference_registry, new_key, target_of

__all__ = ["inference_registry", "plain_logs", "start", "template_database"]

pytestmark = [
    pytest.mark.timeout(1200),  # the routers' image is made first
    pytest.mark.kubernetes,
    pytest.mark.registry,
    pytest.mark.docker,
]

COOL_SECONDS = 5
LONG_SECONDS = 14
"""How long a request takes that outlasts what counts as recent, and the calm after which an endpoint sleeps."""
SLEEP_SECONDS = 60.0
KINDS = (
    "deployments,replicasets,pods,services,secrets,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,"
    "scaledobjects"
)
BODY = b"a picture of a digit " * 50_000


@dataclass
class Site:
    """A deployment of a cluster with KEDA, behind routers and ingress."""

    builder: RunningBuilder
    routers: Routers
    registry: Registry
    deployment_id: UUID
    key: str
    client: httpx.AsyncClient

    async def ask(self, name: str, action: str = "echo", body: bytes | None = None) -> tuple[httpx.Response, float]:
        """The answer of a version or an alias, and how long it took."""
        began = time.monotonic()
        answer = await self.client.request(
            "GET" if body is None else "POST",
            f"/acme/iris/main/{name}/greet/{action}",
            content=body,
            headers={"Host": PUBLIC_NAME, "X-Api-Key": self.key},
        )
        return answer, time.monotonic() - began

    async def version(self, command: str) -> dict[str, str]:
        """A version that may sleep, as soon as it serves."""
        image = f"{self.registry.host}/bases/python:bookworm"
        made = await self.builder.version(
            self.deployment_id, commit="pods", image=image, command=command, replicas=0, replicas_max=2
        )
        row = await self.builder.until(made["id"], "AVAILABLE", READY_SECONDS)
        assert row["proven_at"] is not None
        return made

    async def until(self, version: dict[str, str], words: str, status: str = "AVAILABLE") -> float:
        """Wait until the status of a version's endpoint begins so, and say how long that took."""
        began = time.monotonic()
        while not (row := await self.builder.endpoint(version["id"]))["status_detail"].startswith(words):
            assert time.monotonic() - began < SLEEP_SECONDS, row["status_detail"]
            await asyncio.sleep(0.2)
        assert row["status"] == status
        return time.monotonic() - began

    async def without(self, *kinds: str) -> None:
        """Wait until the cluster has no objects of endpoints whose kind begins so."""
        began = time.monotonic()
        kubectl, namespace = self.routers.kubectl, self.routers.namespace
        while left := [
            one["metadata"]["name"]
            for one in await asyncio.to_thread(kubectl.get, KINDS, namespace, "slipway/endpoint-id")
            if one["kind"].startswith(kinds)
        ]:
            assert time.monotonic() - began < READY_SECONDS, left
            await asyncio.sleep(0.5)


@asynccontextmanager
async def site_of(start: Start, routers: Routers, registry: Registry) -> AsyncIterator[Site]:
    target = target_of(routers.kubectl, routers.namespace, registry, ("append",))
    cluster = target.settings["cluster"]
    assert isinstance(cluster, dict)
    cluster["scale_down_seconds"] = COOL_SECONDS
    async with start(target=target) as builder:
        builder.gateway.add_commit("pods", pod_project())
        deployment = await builder.deployment()
        async with (
            Forwarding(routers.client_address, int(builder.url.rpartition(":")[2].rstrip("/"))) as way,
            httpx.AsyncClient(base_url=routers.url, timeout=60) as client,
        ):
            await asyncio.to_thread(routers.deploy, way.url, builder.target_id, builder.router_token)
            await asyncio.to_thread(routers.open, "ingress")
            yield Site(builder, routers, registry, deployment, await new_key(builder, deployment), client)


@pytest.mark.keda
@pytest.mark.haproxy
@pytest.mark.usefixtures("keda")
async def test_an_endpoint_sleeps_while_nobody_asks_and_answers_who_does(
    start: Start,
    ingress: Cluster,
    kubernetes_cluster: Kubectl,
    namespace: str,
    inference_registry: Registry,
    capsys: pytest.CaptureFixture[str],
) -> None:
    routers = Routers(ingress, kubernetes_cluster, namespace)
    async with site_of(start, routers, inference_registry) as site:
        checks = (await site.builder.call("POST", f"targets/{site.builder.target_id}/check"))["checks"]
        assert [one["ok"] for one in checks if one["name"] == "KEDA (optional)"] == [True]
        version = await site.version("python3 server.py 8000 one")
        slept = await site.until(version, "100% - Asleep")
        await site.without("Pod")
        move = AliasMove(version_id=UUID(version["id"]))
        await site.builder.call("PUT", f"deployments/{site.deployment_id}/aliases/production", move)

        both = await asyncio.gather(site.ask(version["name"]), site.ask("production", body=BODY))
        for answer, _ in both:
            assert (answer.status_code, answer.headers["X-Slipway-Version"]) == (200, version["name"]), answer.text
        assert both[1][0].json()["body_sha256"] == hashlib.sha256(BODY).hexdigest()
        await site.until(version, "100% - Available")
        awake = (await site.ask("production"))[1]

        answer, _ = await site.ask("production", f"slow-{LONG_SECONDS * 1000}")
        assert answer.status_code == 200, "who is being answered keeps it awake"
        again = await site.until(version, "100% - Asleep")
        await site.without("Pod")
        answer, woken = await site.ask("production")
        assert answer.status_code == 200
        with capsys.disabled():
            print(
                f"\nasleep {slept:.1f} s after it was available, {again:.1f} s after its last answer (calm: "
                f"{COOL_SECONDS} s); woken by requests that took {both[0][1]:.1f}, {both[1][1]:.1f} and {woken:.1f} s, "
                f"awake {awake * 1000:.0f} ms"
            )

        await site.until(version, "100% - Asleep")
        path = f"endpoints/{(await site.builder.endpoint(version['id']))['id']}"
        await site.builder.call("PATCH", path, EndpointChange(scale=Scale(replicas=1)))
        await site.until(version, "100% - Available")
        await site.without("ScaledObject", "HorizontalPodAutoscaler")
        await site.builder.call("PATCH", path, EndpointChange(scale=Scale(replicas=0, replicas_max=1)))
        await site.until(version, "100% - Asleep")

        await site.builder.call("DELETE", f"deployments/{site.deployment_id}")
        await site.without("")


@pytest.mark.keda
@pytest.mark.haproxy
@pytest.mark.usefixtures("keda")
async def test_what_keeps_an_endpoint_from_waking_is_said(
    start: Start, ingress: Cluster, kubernetes_cluster: Kubectl, namespace: str, inference_registry: Registry
) -> None:
    routers = Routers(ingress, kubernetes_cluster, namespace)
    async with site_of(start, routers, inference_registry) as site:
        needed = await asyncio.start_server(lambda _, writer: writer.close(), routers.client_address, 0)
        port = needed.sockets[0].getsockname()[1]
        connect = f"import socket; socket.create_connection(('{routers.client_address}', {port}), 3)"
        version = await site.version(f'python3 -c "{connect}" && exec python3 server.py 8000 one')
        await site.until(version, "100% - Asleep")
        await site.without("Pod")

        needed.close()
        await needed.wait_closed()
        waiting = asyncio.create_task(site.ask(version["name"]))
        await site.until(version, "The server ended with exit code 1", "UNAVAILABLE")
        assert not waiting.done()
        needed = await asyncio.start_server(lambda _, writer: writer.close(), routers.client_address, port)
        answer, _ = await waiting
        assert answer.status_code == 200, "it waited for what came in the end"

        await site.until(version, "100% - Asleep")
        service = kubernetes_cluster.get("services", namespace, "app.kubernetes.io/name=slipway-router")
        (health,) = [one for one in service if one["metadata"]["name"].endswith("-health")]
        kubernetes_cluster("delete", "service", health["metadata"]["name"], "-n", namespace)
        await site.until(version, "The endpoint is asleep, and KEDA does not hear of requests", "UNAVAILABLE")
        del health["metadata"]["resourceVersion"], health["metadata"]["uid"]
        kubernetes_cluster.apply(health, namespace=namespace)
        await site.until(version, "100% - Asleep")
        needed.close()
        await site.builder.call("DELETE", f"deployments/{site.deployment_id}")
        await site.without("")


async def test_a_cluster_without_keda_says_so(
    start: Start, kubernetes_cluster: Kubectl, namespace: str, inference_registry: Registry
) -> None:
    target = target_of(kubernetes_cluster, namespace, inference_registry, ("append",))
    async with start(target=target) as builder:
        checks = (await builder.call("POST", f"targets/{builder.target_id}/check"))["checks"]
        assert [one["ok"] for one in checks if one["name"] == "KEDA (optional)"] == [False]
        image = f"{inference_registry.host}/bases/python:bookworm"
        version = await builder.version(await builder.deployment(), image=image, replicas=0, replicas_max=1)
        row = await builder.until(version["id"], "UNAVAILABLE", READY_SECONDS)
        assert row["status_detail"].startswith("This cluster has no KEDA")
        await builder.call("PATCH", f"endpoints/{row['id']}", EndpointChange(scale=Scale(replicas=1)))
        await builder.until(version["id"], "AVAILABLE", READY_SECONDS)
        await builder.call("PATCH", f"endpoints/{row['id']}", EndpointChange(scale=Scale(replicas=0, replicas_max=1)))
        degraded = await builder.until(version["id"], "DEGRADED", READY_SECONDS)
        assert degraded["status_detail"].startswith("100% - This cluster has no KEDA"), "it serves on as it was"
