"""`buildkit`: requirements are installed by a job in the cluster, by the account that the shipped files make."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway_builder.images.builders.buildkit import BuildKitBuilder
from slipway_builder.images.builders.buildkit_job import IMAGE_ID
from slipway_builder.images.builders.docker import DockerBuilder
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildError, ImageRequest
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_kit.egress import EgressRules
from slipway_kit.errors import Unavailable
from slipway_testing.conformance.image_builder import ImageBuilderConformance
from slipway_testing.image_requests import Requests, access_to, push_saved
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.registries import Registry, running_registry
from slipway_testing.tools import TEST_IMAGE
from tests.api.builder.images.conftest import (
    LookInto,
    access,
    base,
    client,
    denied,
    foreign_base,
    look_into,
    nobody,
    read,
    requests,
    secure_client,
)
from tests.cluster.support import NATIVE, Builds

__all__ = [
    "access",
    "base",
    "client",
    "denied",
    "foreign_base",
    "look_into",
    "nobody",
    "read",
    "requests",
    "secure_client",
]

pytestmark = [pytest.mark.kubernetes, pytest.mark.registry, pytest.mark.docker]


@pytest.fixture(scope="module")
def registry(kubernetes_cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with TLS and a login, which pods and this machine reach by one name."""
    if kubernetes_cluster.cluster is None:
        pytest.skip("the named cluster has no way to a registry of this machine")
    name = kubernetes_cluster.cluster.network.host
    home = tmp_path_factory.mktemp("inference")
    with running_registry(home, username="slipway", password="correct horse", address="0.0.0.0", name=name) as found:
        yield found


@pytest.fixture(scope="module")
def python_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, str]]:
    """Debian with Python and pip, in a registry that the cluster's pods do not reach."""
    home = tmp_path_factory.mktemp("python")
    with running_registry(home / "r") as found:
        subprocess.run(["docker", "save", "-o", str(home / "image.tar"), TEST_IMAGE], check=True, timeout=120)
        asyncio.run(push_saved(access_to(found), "python", "bookworm", home / "image.tar"))
        (home / "image.tar").unlink()
        yield found, f"{found.host}/python:bookworm"


@pytest.fixture
def native(requests: Requests, python_base: tuple[Registry, str]) -> Callable[..., ImageRequest]:
    """Requests for images on the Python base."""

    def make(**code: bytes) -> ImageRequest:
        found = requests.make(code={**NATIVE, **code}, base=python_base[1])
        return replace(found, sources=(*found.sources, access_to(python_base[0])))

    return make


@pytest.fixture
def changed(builds: Builds) -> Iterator[Builds]:
    """The same, put in order afterwards."""
    yield builds
    builds.apply()


@pytest.fixture
def options(tmp_path: Path) -> BuilderOptions:
    (tmp_path / "work").mkdir()
    return BuilderOptions(work_dir=tmp_path / "work", egress=EgressRules(["127.0.0.0/8"]))


@pytest.fixture
async def builder(builds: Builds, options: BuilderOptions) -> AsyncIterator[BuildKitBuilder]:
    made = BuildKitBuilder(replace(options, cluster=builds.settings()))
    yield made
    await made.aclose()


class TestBuildKit(ImageBuilderConformance):
    """The suite."""


async def test_requirements_are_installed_by_a_job_that_leaves_nothing(
    builder: BuildKitBuilder,
    builds: Builds,
    options: BuilderOptions,
    native: Callable[..., ImageRequest],
    kubernetes_cluster: Kubectl,
    look_into: LookInto,
    client: RegistryClient,
) -> None:
    """The same again gives the same digest, also by an engine on this machine."""
    assert await builds.problems() == {}
    lines: list[str] = []
    request = native()
    kubernetes_cluster.apply(_left_over(request), namespace=builds.name)
    first = await builder.build(request, lines.append)
    again = await builder.build(replace(request, repository=f"{request.repository}-again"), _quiet)
    assert first.digest == again.digest
    assert any("Successfully installed native-1.0" in line for line in lines), lines
    assert first.seconds["install"] > 0
    members = (await look_into(first)).members()
    (placed,) = [name for name in members if name.endswith("/native.py")]
    assert placed.startswith("valohai/.home/.local/lib/python3.")
    assert members[placed][1] == b"USER = 10001", "the endpoint's user ran it"
    assert members[placed][0].uid == 10001
    await builds.until_empty()
    started = next(found[0] for line in lines if (found := re.search(r"(?<=@)sha256:[0-9a-f]{64}", line)))
    assert await client.find_manifest(request.repository, started) is None

    docker = DockerBuilder(options)
    try:
        beside = await docker.build(replace(request, repository=f"{request.repository}-docker"), _quiet)
    finally:
        await docker.aclose()
    assert beside.digest == first.digest


async def test_a_requirement_that_does_not_install_is_named(
    builder: BuildKitBuilder, builds: Builds, native: Callable[..., ImageRequest]
) -> None:
    lines: list[str] = []
    request = native(**{"requirements.txt": b"--no-index\nno-such-distribution==9.9\n"})
    with pytest.raises(BuildError, match=r"because of no-such-distribution==9\.9") as caught:
        await builder.build(request, lines.append)
    assert "pip said" in caught.value.message
    assert not any("failed to solve" in line for line in lines), "what BuildKit says of it is no help"
    await builds.until_empty()


async def test_an_image_without_pip_is_named(builder: BuildKitBuilder, requests: Requests) -> None:
    with pytest.raises(BuildError, match="no python3 with pip"):
        await builder.build(requests.make(code={"requirements.txt": b"six\n"}), _quiet)


async def test_a_cancelled_build_leaves_nothing(
    builder: BuildKitBuilder, builds: Builds, native: Callable[..., ImageRequest]
) -> None:
    """A package that never ends its build; its lines come while it runs."""
    slow = b"import time\ntime.sleep(600)\n"
    started = asyncio.Event()

    def listen(line: str) -> None:
        if "Getting requirements to build wheel" in line:
            started.set()

    task = asyncio.create_task(builder.build(native(**{"native/backend.py": slow}), listen))
    async with asyncio.timeout(60):
        await started.wait()
    assert len(builds.objects()) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await builds.until_empty()


async def test_what_the_cluster_does_not_run_is_said(
    changed: Builds, options: BuilderOptions, native: Callable[..., ImageRequest], kubernetes_cluster: Kubectl
) -> None:
    await _refused(changed.settings(image="slipway-test/nothing:1"), options, native(), r"slipway-test/nothing:1")
    away = {"node_selector": {"no": "node"}, "start_seconds": 2}
    await _refused(changed.settings(**away), options, native(), r"did not start within 2 s: .*node affinity")
    kubernetes_cluster("label", "namespace", changed.name, "pod-security.kubernetes.io/enforce=baseline", "--overwrite")
    await _refused(changed.settings(), options, native(), r"violates PodSecurity")
    problems = await changed.problems()
    assert problems.keys() == {"builds: namespace"}
    assert f"kubectl label namespace {changed.name}" in problems["builds: namespace"]
    await changed.until_empty()


async def test_a_missing_right_is_named(changed: Builds) -> None:
    changed.apply(leave_out="jobs")
    problems = await changed.problems()
    assert problems.keys() == {"builds: permission jobs"}
    assert 'Add the rule: {apiGroups: ["batch"], resources: ["jobs"]' in problems["builds: permission jobs"]


async def test_a_build_without_end_is_ended(
    builds: Builds, options: BuilderOptions, native: Callable[..., ImageRequest]
) -> None:
    slow = native(**{"native/backend.py": b"import time\ntime.sleep(600)\n"})
    builder = BuildKitBuilder(replace(options, cluster=builds.settings(run_seconds=10)))
    try:
        with pytest.raises(BuildError, match=r"ended after 10 s.*builds\.run_seconds"):
            await builder.build(slow, _quiet)
    finally:
        await builder.aclose()
    await builds.until_empty()


async def _refused(
    settings: KubernetesTargetSettings, options: BuilderOptions, request: ImageRequest, words: str
) -> None:
    builder = BuildKitBuilder(replace(options, cluster=settings))
    try:
        with pytest.raises(Unavailable, match=words):
            await builder.build(request, _quiet)
    finally:
        await builder.aclose()


def _left_over(request: ImageRequest) -> dict[str, Any]:
    """The job of a builder that was killed while it built the same image."""
    labels = {IMAGE_ID: str(request.image_id), "app.kubernetes.io/name": "slipway-image-build"}
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "nothing"}]}
    spec = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "left", "labels": labels}, "spec": spec}


def _quiet(line: str) -> None:
    """Nobody reads along."""
