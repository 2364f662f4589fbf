"""A namespace of the cluster under test as a deployment target."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_builder.targets.kubernetes.target import KubernetesTarget
from slipway_builder.targets.protocol import EndpointRevision
from slipway_kit.clock import SystemClock
from slipway_testing.conformance.target import MakeRevision, MakeTarget, revision_of
from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.kubernetes.ingress import start_ingress
from slipway_testing.kubernetes.keda import keda_definitions_in, running_keda
from slipway_testing.kubernetes.programs import buildkit_image, ingress_programs, keda_programs
from slipway_testing.kubernetes.programs import keda_definitions as definitions_of
from slipway_testing.router_image import router_image
from tests.cluster.support import Builds, TargetSettings

collect_ignore = [] if os.environ.get("SLIPWAY_CHAOS") == "full" else ["test_autoscaling.py"]
"""It takes the minutes that an autoscaler takes; `make chaos` runs it."""


@pytest.fixture(scope="session")
def buildkit(kubernetes_cluster: Kubectl, request: pytest.FixtureRequest) -> str:
    """An image with BuildKit that the node has."""
    found = buildkit_image(request.config.rootpath)
    if kubernetes_cluster.cluster is None or found is None:
        pytest.skip(
            "no image with BuildKit; tests/cluster/setup/buildkit/build.sh makes one for the tests' own cluster"
        )
    kubernetes_cluster.cluster.import_archive(found[1])
    return found[0]


@pytest.fixture(scope="module")
def builds(kubernetes_cluster: Kubectl, buildkit: str) -> Iterator[Builds]:
    """A namespace for builds."""
    found = Builds(kubernetes_cluster, buildkit)
    found.apply()
    yield found
    found.delete()


@pytest.fixture
def target_settings(kubernetes_cluster: Kubectl, namespace: str) -> TargetSettings:
    """Settings of a target in the test's namespace."""

    def make(**changes: object) -> KubernetesTargetSettings:
        given = {"namespace": namespace, "kubeconfig": kubernetes_cluster.kubeconfig.read_text(), "stop_seconds": 2}
        return KubernetesTargetSettings.model_validate({**given, "drain_seconds": 1, **changes})

    return make


@pytest.fixture
async def make_target(target_settings: TargetSettings) -> AsyncIterator[MakeTarget]:
    """Targets in the test's namespace."""
    made: list[KubernetesTarget] = []

    async def make(installation: str) -> KubernetesTarget:
        made.append(KubernetesTarget(target_settings(), installation, b"key of the test", SystemClock()))
        return made[-1]

    yield make
    for target in made:
        await target.aclose()


@pytest.fixture
def make_revision(kubernetes_cluster: Kubectl) -> MakeRevision:
    """Revisions that run Python programs in the test image."""

    def make(program: str) -> EndpointRevision:
        return revision_of(program, image=kubernetes_cluster.image)

    return make


@pytest.fixture(scope="session")
def ingress(kubernetes_cluster: Kubectl, pytestconfig: pytest.Config) -> Cluster:
    """A cluster of this machine with an ingress at its node's address, and with the routers' image."""
    if kubernetes_cluster.cluster is None:
        pytest.skip("the named cluster has an ingress of its own, and no way to images of this machine")
    binaries = ingress_programs(pytestconfig.rootpath)
    assert binaries is not None, "the group kubernetes has found the programs"
    kubernetes_cluster.cluster.import_image(router_image(pytestconfig.rootpath))
    start_ingress(kubernetes_cluster.cluster, kubernetes_cluster, binaries)
    return kubernetes_cluster.cluster


@pytest.fixture(scope="module")
def keda_definitions(kubernetes_cluster: Kubectl, pytestconfig: pytest.Config) -> Iterator[None]:
    """The cluster knows KEDA's objects, and nobody does anything with them."""
    if kubernetes_cluster.cluster is None:
        pytest.skip("the named cluster has a KEDA of its own, or none")
    with keda_definitions_in(kubernetes_cluster, _there(definitions_of(pytestconfig.rootpath))):
        yield


@pytest.fixture
def keda(ingress: Cluster, kubernetes_cluster: Kubectl, pytestconfig: pytest.Config) -> Iterator[None]:
    """The cluster has KEDA; mark the tests that use it with `keda`."""
    root = pytestconfig.rootpath
    with running_keda(ingress, kubernetes_cluster, _there(keda_programs(root)), _there(definitions_of(root))):
        yield


def _there(folder: Path | None) -> Path:
    assert folder is not None, "the groups have found the programs"
    return folder
