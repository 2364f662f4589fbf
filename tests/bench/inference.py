"""From `POST deployment-versions/` to the first answer of a version on a Kubernetes cluster, step by step."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import aiohttp
import asyncpg

from slipway_builder.targets.kubernetes.names import object_name
from slipway_testing.forwarding import Forwarding
from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.files import API_PORT
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.kubernetes.ingress import start_ingress
from slipway_testing.kubernetes.programs import KUBECONFIG_VARIABLE, ingress_programs, kubernetes_problem, programs
from slipway_testing.pods import small_project
from slipway_testing.router_image import router_image
from slipway_testing.tools import find_tool
from tests.bench.harness import Line, Options, Result, Series, SkippedError, spin
from tests.bench.installation import Client, Installation, Workbench, scratch_home
from tests.cluster.routers import PUBLIC_NAME, Routers
from tests.cluster.test_inference import registry_of, target_of

_T = TypeVar("_T")
_ROOT = Path(__file__).parents[2]
_STAGES = {
    "called": "the call's answer",
    "built": "image pushed",
    "applied": "objects applied",
    "scheduled": "pod scheduled",
    "pulled": "image pulled",
    "started": "container started",
    "ready": "pod ready",
    "available": "seen by Slipway",
    "answered": "router and first 200",
}
_CODE = """
- endpoint:
    name: greet
    image: {image}
    server-command: python3 server.py 8000
"""
_GOAL_SECONDS = 15.0
_NAMESPACE = "slipway-bench"
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.02
_STATE = """
SELECT i.status = 'ready' AS built, e.status = 'AVAILABLE' AS available, i.seconds
FROM builder.endpoints e JOIN builder.images i ON i.id = e.image_id JOIN builder.versions v ON v.id = e.version_id
WHERE v.id = $1
"""


async def inference_first_answer(options: Options) -> Result:
    """One version after the other, each with code of its own."""
    result = Result(
        "inference-first-answer",
        "POST deployment-versions/ to the first 200 through ingress and router; small image, one node, `append`, "
        "registry with TLS and a login; everything on this machine, the cluster too",
    )
    count = 3 if options.quick else max(5, options.rounds)
    async with _site() as site:
        runs = []
        for _ in range(count):
            result.spins.append(spin())
            runs.append(await site.version())
    whole = Series(tuple(one.total for one in runs))
    result.lines.append(Line("first 200", "s", whole))
    for stage, words in _STAGES.items():
        result.lines.append(Line(f"of which until {words}", "s", Series(tuple(one.took(stage) for one in runs))))
    result.notes.append(f"Goal: under {_GOAL_SECONDS:.0f} s; slowest of {count}: {max(whole.values):.1f} s.")
    result.notes.append(f"The first on the node, which pulls the base: {whole.values[0]:.1f} s.")
    warnings = sorted({words for one in runs for words in one.warnings})
    result.notes.append(f"Warnings of the cluster: {'; '.join(warnings) or 'none'}.")
    return result


@dataclass
class _Run:
    """Monotonic seconds of each stage's end, in the order of `_STAGES`."""

    began: float
    object_name: str = ""
    """How the cluster's objects of the endpoint are named, and its pods begin."""
    at: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def note(self, stage: str) -> None:
        self.at.setdefault(stage, time.monotonic())

    @property
    def total(self) -> float:
        return self.at["answered"] - self.began

    def took(self, stage: str) -> float:
        """Seconds since the stage before; a stage that was seen after the next one took none."""
        order = list(_STAGES)
        before = max([self.began, *(self.at[one] for one in order[: order.index(stage)] if one in self.at)])
        return max(0.0, self.at.get(stage, before) - before)


@dataclass
class _Site:
    client: Client
    bench: Workbench
    database: asyncpg.Pool
    cluster: Cluster
    routers: Routers
    http: aiohttp.ClientSession
    deployment: str
    key: str

    async def version(self) -> _Run:
        name = f"v{uuid4().hex[:8]}"
        run = _Run(time.monotonic())
        watches = [asyncio.create_task(self._watch(what, run)) for what in ("pods", "events", "deployments")]
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._call(name, run)
        finally:
            for one in watches:
                one.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        return run

    async def _call(self, name: str, run: _Run) -> None:
        body = {
            "deployment": self.deployment,
            "commit": self.bench.commit,
            "name": name,
            "endpoint_configurations": {"greet": {"enabled": True, "files": {}}},
        }
        run.began = time.monotonic()
        made = await self.client.call("POST", "/api/v0/deployment-versions/", 201, json=body)
        run.note("called")
        run.object_name = object_name(UUID(made["endpoints"][0]["id"]))
        rows = asyncio.create_task(self._follow_rows(made["id"], run))
        while await self._status(made["endpoint_urls"]["greet"]) != 200:
            await asyncio.sleep(_POLL_SECONDS)
        run.note("answered")
        await rows

    async def _status(self, url: str) -> int:
        async with self.http.get(url, headers={"Host": PUBLIC_NAME, "X-Api-Key": self.key}) as answer:
            return answer.status

    async def _follow_rows(self, version: str, run: _Run) -> None:
        while "available" not in run.at:
            row = await self.database.fetchrow(_STATE, version)
            for stage in ("built", "available"):
                if row is not None and row[stage]:
                    run.note(stage)
            await asyncio.sleep(_POLL_SECONDS)

    async def _watch(self, what: str, run: _Run) -> None:
        """Note what the API server tells of the namespace from now on."""
        group = "apis/apps/v1" if what == "deployments" else "api/v1"
        url = f"https://{self.cluster.network.node}:{API_PORT}/{group}/namespaces/{self.routers.namespace}/{what}"
        headers = {"Authorization": f"Bearer {self.cluster.files.tokens['admin']}"}
        async with self.http.get(url, headers=headers, ssl=False) as answer:
            since = (await answer.json())["metadata"]["resourceVersion"]
        timeout = aiohttp.ClientTimeout(total=None)
        query = {"watch": "1", "resourceVersion": since}
        async with self.http.get(url, params=query, headers=headers, ssl=False, timeout=timeout) as answer:
            rest = b""
            async for data in answer.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    seen = json.loads(line)["object"]
                    name = seen.get("involvedObject", seen["metadata"])["name"]
                    if run.object_name and name.startswith(run.object_name):
                        _NOTES[what](seen, run)


def _note_pod(pod: Mapping[str, Any], run: _Run) -> None:
    status = pod["status"]
    conditions = {one["type"] for one in status.get("conditions", ()) if one["status"] == "True"}
    if "PodScheduled" in conditions:
        run.note("scheduled")
    if any("running" in one["state"] for one in status.get("containerStatuses", ())):
        run.note("started")
    if "Ready" in conditions:
        run.note("ready")


def _note_event(event: Mapping[str, Any], run: _Run) -> None:
    if event["reason"] == "Pulled":
        run.note("pulled")
    if event["type"] == "Warning":
        run.warnings.append(event["reason"])


def _note_deployment(_: Mapping[str, Any], run: _Run) -> None:
    run.note("applied")


_NOTES = {"pods": _note_pod, "events": _note_event, "deployments": _note_deployment}


@asynccontextmanager
async def _site() -> AsyncIterator[_Site]:
    """A platform of this machine with a cluster of this machine as a target, routers in it, and a deployment."""
    _need()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-inference-")))
        cluster = await _entered(stack, _running_cluster())
        registry = await _entered(stack, registry_of(cluster, folder))
        routers = Routers(cluster, Kubectl(cluster.kubectl, cluster.kubeconfig, "", cluster), _NAMESPACE)
        home = await stack.enter_async_context(scratch_home())
        home.mkdir()
        options = ("--runtime", "process", "--processes", "split")
        client = (await stack.enter_async_context(Installation(home, *options))).client
        builder = json.loads((home / "environments" / "builder.json").read_text())
        port = int(builder["SLIPWAY_BUILDER__HTTP__INTERNAL_PORT"])
        way = await stack.enter_async_context(Forwarding(routers.client_address, port))
        draft = target_of(routers.kubectl, _NAMESPACE, registry, ("append",)).model_dump(mode="json")
        draft |= {"is_default": False, "public_url": routers.url}
        target = await client.call("POST", "/api/v1/deployment-targets", 201, json=draft)
        await asyncio.to_thread(routers.deploy, way.url, target["id"], target["router_token"])
        await asyncio.to_thread(routers.open, "ingress")
        database = await asyncpg.create_pool(client.database_url, min_size=1, max_size=2)
        stack.push_async_callback(database.close)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        code = {"valohai.yaml": _CODE.format(image=f"{registry.host}/bases/python:bookworm"), **small_project()}
        bench = await client.with_code("inference-bench", code)
        made = await client.call(
            "POST", "/api/v0/deployments/", 201,
            json={"project": bench.project, "name": "main", "target": draft["name"]},
        )  # fmt: skip
        issued = await client.call("POST", f"/api/v1/deployments/{made['id']}/keys", 201, json={"consumer": "bench"})
        yield _Site(client, bench, database, cluster, routers, http, made["id"], issued["key"])


def _need() -> None:
    if os.environ.get(KUBECONFIG_VARIABLE):
        raise SkippedError(f"{KUBECONFIG_VARIABLE} names a cluster; it measures one of its own")
    problem = kubernetes_problem(_ROOT)
    if problem is not None:
        raise SkippedError(problem)
    for tool, package in (("docker-registry", "docker-registry"), ("htpasswd", "apache2-utils")):
        if not find_tool(tool):
            raise SkippedError(f"{tool} is not installed; apt-get install {package}")


async def _entered(stack: AsyncExitStack, manager: AbstractContextManager[_T]) -> _T:
    """Enter what blocks, and leave it at the end."""
    entered = await asyncio.to_thread(manager.__enter__)
    stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
    return entered


@contextmanager
def _running_cluster() -> Iterator[Cluster]:
    """With an ingress, the routers' image and a namespace."""
    binaries, of_ingress = programs(_ROOT), ingress_programs(_ROOT)
    if binaries is None or of_ingress is None:
        raise SkippedError("the tree names no programs of a cluster")
    cluster = Cluster.claim(binaries)
    try:
        cluster.start()
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, "", cluster)
        cluster.import_image(router_image(_ROOT))
        start_ingress(cluster, kubectl, of_ingress)
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
        yield cluster
    finally:
        cluster.stop()
