"""From a version's draft to answers through a router, on a real cluster: build, push, serve, move, delete."""

import asyncio
import hashlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import AliasMove, KeyDraft, TargetDraft
from slipway_testing.image_requests import access_to, push_saved
from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.ports import unused_port
from slipway_testing.registries import Registry, running_registry
from slipway_testing.tools import TEST_IMAGE
from tests.api.builder.harness import SERVER, RunningBuilder, Start, plain_logs, start, template_database
from tests.cluster.support import NATIVE, Builds

__all__ = ["plain_logs", "start", "template_database"]

pytestmark = [pytest.mark.kubernetes, pytest.mark.registry, pytest.mark.docker]
READY_SECONDS = 60.0


@pytest.fixture(scope="module")
def inference_registry(kubernetes_cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with TLS and a login that the node can pull from, with the base image in it."""
    if kubernetes_cluster.cluster is None:
        pytest.skip("the named cluster has no way to a registry of this machine")
    with registry_of(kubernetes_cluster.cluster, tmp_path_factory.mktemp("inference-registry")) as registry:
        yield registry


@contextmanager
def registry_of(cluster: Cluster, home: Path) -> Iterator[Registry]:
    """Such a registry. Blocking."""
    saved = home / "base.tar"
    subprocess.run(["docker", "save", "-o", str(saved), TEST_IMAGE], check=True, timeout=120)
    login = {"username": "slipway", "password": "correct horse"}
    # Pods know it by the same name as the builder.
    with running_registry(home / "r", **login, address="0.0.0.0", name=cluster.network.host) as registry:
        cluster.trust_registry(registry.host, int(registry.host.rpartition(":")[2]))
        asyncio.run(push_saved(access_to(registry), "bases/python", "bookworm", saved))
        yield registry


def target_of(
    cluster: Kubectl, namespace: str, registry: Registry, builders: tuple[str, ...], builds: Builds | None = None
) -> TargetDraft:
    """A target of the cluster as an administrator adds it."""
    login = {"username": registry.username, "password": registry.password}
    return TargetDraft(
        name="cluster",
        kind=TargetKind.KUBERNETES,
        public_url="http://models.acme.test",
        is_default=True,
        settings={
            "cluster": {
                "namespace": namespace,
                "kubeconfig": cluster.kubeconfig.read_text(),
                "pull": {"registry": registry.host, **login},
                "drain_seconds": 1,
                "stop_seconds": 2,
                "builds": None if builds is None else {"namespace": builds.name, "image": builds.image},
            },
            "images": {
                "registry": {"host": registry.host, "prefix": "inference", "ca_file": str(registry.ca_file), **login},
                "builders": builders,
            },
        },
    )


@asynccontextmanager
async def router(builder: RunningBuilder, home: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A router of the target, and a client of it."""
    home.mkdir()
    (home / "token").write_text(builder.router_token)
    port, health = unused_port(), unused_port()
    settings = {
        "builder_url": builder.url,
        "token_file": home / "token",
        "target_id": builder.target_id,
        "router_id": "router-1",
        "state_dir": home / "state",
        "port": port,
        "health_port": health,
    }
    environment = {f"SLIPWAY_ROUTER__{name.upper()}": str(value) for name, value in settings.items()}
    with (home / "router.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "slipway-router", env={**_path(), **environment}, stdout=log, stderr=log
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            async with asyncio.timeout(30):
                while not await _ready(health):
                    await asyncio.sleep(0.05)
            yield client
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("builders", [("append",), ("docker",), ("buildkit",)])
async def test_a_version_goes_from_its_draft_to_answers_and_away_again(
    start: Start,
    kubernetes_cluster: Kubectl,
    namespace: str,
    inference_registry: Registry,
    tmp_path: Path,
    builders: tuple[str, ...],
    request: pytest.FixtureRequest,
) -> None:
    builds = request.getfixturevalue("builds") if "buildkit" in builders else None
    target = target_of(kubernetes_cluster, namespace, inference_registry, builders, builds)
    async with start(target=target) as builder, router(builder, tmp_path / "router") as client:
        checks = (await builder.call("POST", f"targets/{builder.target_id}/check"))["checks"]
        assert [one for one in checks if not one["ok"] and "(optional)" not in one["name"]] == []
        deployment = await builder.deployment()
        key = await new_key(builder, deployment)
        image = f"{inference_registry.host}/bases/python:bookworm"
        code = {}
        if builds is not None:
            builder.gateway.add_commit("native", {"server.py": SERVER, **{k: v.decode() for k, v in NATIVE.items()}})
            code = {"commit": "native", "command": "python3 -c 'import native' && exec python3 server.py 8000"}
        secret = {"scope": "project", "scope_id": str(builder.project_id), "name": "s", "version": 1}
        builder.gateway.secrets["MY_SECRET"] = "hush"
        first = await builder.version(
            deployment, model=b"petals", image=image, **code, environment_variables={"MY_SECRET": {"secret": secret}}
        )
        await builder.until(first["id"], "AVAILABLE", READY_SECONDS)
        url = f"/acme/iris/main/{first['name']}/greet"
        answer = await _ask(client, url, key)
        found = answer.json()
        assert (found["path"], found["model"]) == (f"{url}/predict", "petals")
        assert found["environment"]["MY_SECRET"] == "hush"
        assert answer.headers["X-Slipway-Version"] == first["name"]
        assert (await client.get(url)).status_code == 401
        assert (await client.get(url, headers={"Authorization": "Bearer wrong"})).status_code == 403

        second = await builder.version(deployment, model=b"sepals", image=image, **code)
        moved = await _move(builder, deployment, first["id"])
        assert moved["confirmed_routers"] == 1
        await builder.until(second["id"], "AVAILABLE", READY_SECONDS)
        alias = "/acme/iris/main/production/greet"
        assert (await _ask(client, alias, key)).json()["model"] == "petals"
        await _move(builder, deployment, second["id"])
        assert (await _ask(client, alias, key)).json()["model"] == "sepals"
        assert (await _ask(client, url, key)).json()["model"] == "petals", "both are live"
        await builder.call("POST", f"deployments/{deployment}/aliases/production/rollback")
        assert (await _ask(client, alias, key)).json()["model"] == "petals"

        await builder.call("DELETE", f"deployments/{deployment}")
        async with asyncio.timeout(READY_SECONDS):
            while _objects(kubernetes_cluster, namespace) or (await client.get(url)).status_code != 404:
                await asyncio.sleep(0.5)


async def test_an_image_that_does_not_exist_is_named(
    start: Start, kubernetes_cluster: Kubectl, namespace: str, inference_registry: Registry
) -> None:
    target = target_of(kubernetes_cluster, namespace, inference_registry, ("append",))
    async with start(target=target) as builder:
        missing = f"{inference_registry.host}/bases/nothing:1"
        version = await builder.version(await builder.deployment(), image=missing)
        row = await builder.until(version["id"], "BUILD_FAILED", READY_SECONDS)
        assert missing in row["status_detail"]
        with pytest.raises(AssertionError, match="not_ready"):
            await _move(builder, row["deployment_id"], version["id"])


async def new_key(builder: RunningBuilder, deployment: UUID) -> str:
    value = secrets.token_urlsafe(32)
    await builder.call(
        "POST",
        "keys",
        KeyDraft(
            id=uuid4(),
            deployment_id=deployment,
            consumer="tests",
            creator_id=1,
            key_hash=hashlib.sha256(value.encode()).hexdigest(),
        ),
    )
    return value


async def _move(builder: RunningBuilder, deployment: UUID, version: str) -> dict[str, object]:
    move = AliasMove(version_id=UUID(version))
    moved: dict[str, object] = await builder.call("PUT", f"deployments/{deployment}/aliases/production", move)
    return moved


async def _ask(client: httpx.AsyncClient, url: str, key: str) -> httpx.Response:
    """Ask until the router has heard of what the builder knows: a moment at most."""
    for _ in range(100):
        answer = await client.get(f"{url}/predict", headers={"Authorization": f"Bearer {key}"})
        if answer.status_code == 200:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(answer.text)


async def _ready(port: int) -> bool:
    try:
        async with httpx.AsyncClient(timeout=2) as client:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


def _objects(cluster: Kubectl, namespace: str) -> list[str]:
    kinds = "deployments,services,secrets,pods,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers"
    return [one["metadata"]["name"] for one in cluster.get(kinds, namespace, "app.kubernetes.io/managed-by=slipway")]


def _path() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/root")}
