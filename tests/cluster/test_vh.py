"""The unmodified `vh` and a whole platform whose endpoints run on the cluster, asked from outside by its ingress."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from slipway_testing.forwarding import Forwarding
from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.registries import Registry
from slipway_testing.tools import TEST_IMAGE
from tests.cluster.routers import PUBLIC_NAME, Routers
from tests.cluster.test_inference import inference_registry, target_of
from tests.e2e.conftest import api, git_server, lab, prepared_desk
from tests.e2e.support.desk import Desk
from tests.e2e.support.lab import Lab
from tests.e2e.support.platform import Platform
from tests.e2e.support.repository import Checkout
from tests.e2e.test_inference import Deployment, create_version

__all__ = ["api", "git_server", "inference_registry", "lab", "prepared_desk"]

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.registry,
    pytest.mark.docker,
    pytest.mark.haproxy,
    pytest.mark.vh,
]

ANSWER_SECONDS = 60.0
GOAL_SECONDS = 15.0


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """A platform that runs its executions as processes."""
    started = Platform("process")
    try:
        started.start()
        yield started
    finally:
        started.stop()
        started.delete()


@pytest.fixture
def desk(prepared_desk: Desk, lab: Lab, inference_registry: Registry, tmp_path: Path) -> Desk:
    """vh in a checkout whose endpoints are based on an image of the inference registry."""
    folder = tmp_path / "sample"
    shutil.copytree(lab.checkout.folder, folder)
    yaml = folder / "valohai.yaml"
    yaml.write_text(yaml.read_text().replace(TEST_IMAGE, f"{inference_registry.host}/bases/python:bookworm"))
    checkout = Checkout(folder)
    checkout.commit("Serve on the cluster")
    checkout.push()
    lab.api.post(f"projects/{lab.project}/fetch/")
    own = prepared_desk.copy(tmp_path / "vh-home").elsewhere(folder)
    own.vh("project", "link", lab.name, "--yes")
    return own


@pytest.fixture
def builder_port(platform: Platform) -> int:
    """Of the builder's internal API."""
    variables = json.loads((platform.home / "environments" / "builder.json").read_text())
    return int(variables["SLIPWAY_BUILDER__HTTP__INTERNAL_PORT"])


async def test_a_trained_model_becomes_an_endpoint_on_the_cluster(
    lab: Lab,
    desk: Desk,
    builder_port: int,
    ingress: Cluster,
    kubernetes_cluster: Kubectl,
    namespace: str,
    inference_registry: Registry,
    capsys: pytest.CaptureFixture[str],
) -> None:
    routers = Routers(ingress, kubernetes_cluster, namespace)
    draft = target_of(kubernetes_cluster, namespace, inference_registry, ("append",)).model_dump(mode="json")
    target = lab.api.post("/api/v1/deployment-targets", {**draft, "is_default": False, "public_url": routers.url})
    name = f"greeter-{uuid4().hex[:6]}"
    made = lab.api.post("deployments/", {"project": lab.project, "name": name, "target": draft["name"]})
    key = lab.api.post(f"/api/v1/deployments/{made['id']}/keys", {"consumer": "tests"})["key"]
    async with Forwarding(routers.client_address, builder_port) as way:
        await asyncio.to_thread(routers.deploy, way.url, target["id"], target["router_token"])
        await asyncio.to_thread(routers.open, "ingress")
        with httpx.Client(timeout=30, headers={"Host": PUBLIC_NAME}) as http:
            deployment = Deployment(lab.api, made["id"], name, key, http)
            timeline = await asyncio.to_thread(_from_training_to_deletion, lab, desk, deployment, routers)
    with capsys.disabled():
        print("\ncluster, from POST deployment-versions/: " + ", ".join(f"{at:.2f} s {what}" for at, what in timeline))
    assert timeline[-1][0] < ANSWER_SECONDS


def _from_training_to_deletion(
    lab: Lab, desk: Desk, deployment: Deployment, routers: Routers
) -> list[tuple[float, str]]:
    trained = lab.api.wait_complete(lab.run("pre")["id"])
    model = next(one for path, one in lab.api.outputs(trained).items() if path == "result.txt")
    first = create_version(desk, deployment, model["id"])
    url = deployment.until(first, "AVAILABLE")["endpoint_urls"]["greet"]
    assert url.startswith(f"{routers.url}/")
    _until_answers(deployment, url)
    answer = deployment.ask(f"{url}/predict")
    assert answer.json()["words"] == "the result"
    assert answer.headers["X-Slipway-Version"] == first
    assert deployment.ask(url, "").status_code == 401
    assert deployment.ask(url, "wrong").status_code == 403
    assert deployment.move("production", first)["confirmed_routers"] == 2
    alias_url = url.replace(f"/{first}/", "/production/")
    assert deployment.ask(alias_url).json()["words"] == "the result"

    again = deployment.version(first)
    timeline = _timed_version(
        lab, deployment, str(again["commit"]["identifier"]), model["id"], url.replace(first, "timed")
    )
    assert deployment.ask(url).status_code == 200, "both versions are live"
    deployment.move("production", "timed")
    assert deployment.ask(alias_url).headers["X-Slipway-Version"] == "timed"
    lab.api.delete(f"deployments/{deployment.id}/")
    deadline = time.monotonic() + ANSWER_SECONDS
    while routers.kubectl.get(
        "deployments,services,secrets,pods", routers.namespace, "app.kubernetes.io/managed-by=slipway"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert deployment.ask(url).status_code == 404
    return timeline


def _timed_version(lab: Lab, deployment: Deployment, commit: str, datum: str, url: str) -> list[tuple[float, str]]:
    """Seconds from the call that makes a version to what its endpoint's status said next, and to the first answer."""
    began = time.monotonic()
    configuration = {"greet": {"enabled": True, "files": {"greeting": datum}}}
    made = lab.api.post(
        "deployment-versions/",
        {
            "deployment": deployment.id,
            "commit": commit,
            "name": "timed",
            "endpoint_configurations": configuration,
        },
    )
    timeline = [(time.monotonic() - began, "the call's answer")]
    while deployment.ask(url).status_code != 200:
        (endpoint,) = lab.api.get(f"deployment-versions/{made['id']}/")["endpoints"]
        if endpoint["status_detail"] != timeline[-1][1]:
            timeline.append((time.monotonic() - began, str(endpoint["status_detail"])))
        assert timeline[-1][0] < ANSWER_SECONDS
        time.sleep(0.02)
    return [*timeline, (time.monotonic() - began, "first 200")]


def _until_answers(deployment: Deployment, url: str) -> None:
    """The ingress takes a moment to hear of its first route."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while deployment.ask(url).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
