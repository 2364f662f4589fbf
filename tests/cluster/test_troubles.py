"""Why an endpoint does not serve is said in plain words within 15 s, while the old replicas go on."""

from dataclasses import replace
from typing import Any

import pytest

from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_builder.targets.kubernetes.target import KubernetesTarget
from slipway_builder.targets.protocol import EndpointRevision, Target
from slipway_kit.clock import SystemClock
from slipway_kit.errors import Invalid, Unavailable
from slipway_schemas.inference.statuses import Problem
from slipway_schemas.inference.versions import Bounds, EndpointResources, Scale, SharedVolume, Toleration
from slipway_testing.conformance.target import (
    CRASHING,
    SERVER,
    WORDS_SECONDS,
    MakeRevision,
    MakeTarget,
    Watch,
    ask,
    grown,
)
from slipway_testing.kubernetes.fixtures import Kubectl
from tests.cluster.support import TargetSettings

pytestmark = pytest.mark.kubernetes


@pytest.fixture
async def target(make_target: MakeTarget) -> Target:
    return await make_target("troubles")


def asking(revision: EndpointRevision, **changes: Any) -> EndpointRevision:
    return replace(revision, spec=revision.spec.model_copy(update=changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resources": EndpointResources(cpu=Bounds(min=500))}, "Insufficient cpu. Ask for less"),
        ({"resources": EndpointResources(devices={"nvidia.com/gpu": 1})}, "Insufficient nvidia.com/gpu"),
        ({"node_selector": {"disk": "gold"}}, "No node carries the labels of the endpoint's `node-selector`"),
        ({"shared_volumes": (SharedVolume(claim="models", mount_path="/models"),)}, '"models" not found'),
    ],
    ids=["cpu", "device", "node-selector", "volume"],
)
async def test_no_node_takes_it(
    target: Target, make_revision: MakeRevision, changes: dict[str, Any], words: str
) -> None:
    revision = asking(make_revision(SERVER), **changes)
    await target.apply(revision)
    found = await Watch(target, revision.endpoint_id).until(lambda one: one.problem is not None, WORDS_SECONDS)
    assert found.problem is Problem.UNSCHEDULABLE
    assert words in found.detail


async def test_a_quota_is_used_up(
    target: Target, make_revision: MakeRevision, kubernetes_cluster: Kubectl, namespace: str
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    kubernetes_cluster.apply(quota, namespace=namespace)
    revision = replace(make_revision(SERVER), scale=Scale(replicas=2))
    await target.apply(revision)
    watch = Watch(target, revision.endpoint_id)
    found = await watch.until(lambda one: one.problem is not None and one.ready == 1, WORDS_SECONDS)
    assert found.problem is Problem.QUOTA_EXCEEDED
    assert found.detail.startswith("1 of 2 replicas serve. The quota of the cluster's namespace is used up: small")


async def test_the_cluster_refuses_pods_that_run_as_root(
    target_settings: TargetSettings, make_revision: MakeRevision
) -> None:
    settings = target_settings(root_allowed=["/acme"])
    target = KubernetesTarget(settings, "troubles", b"", SystemClock())
    try:
        checks = {check.name: check for check in await target.check()}
        assert "cannot run as root" in checks["namespace"].message
        revision = make_revision(SERVER)
        await target.apply(revision)
        found = await Watch(target, revision.endpoint_id).until(lambda one: one.problem is not None, WORDS_SECONDS)
        assert found.problem is Problem.REFUSED
        assert "violates PodSecurity" in found.detail
    finally:
        await target.aclose()


async def test_the_old_replica_serves_on_while_the_new_one_crashes(target: Target, make_revision: MakeRevision) -> None:
    revision = make_revision(SERVER)
    watch = Watch(target, revision.endpoint_id)
    await target.apply(revision)
    address = await watch.until_serving(1, 1, 30)
    broken = grown(revision, command=("python3", "-u", "-c", CRASHING))
    await target.apply(broken)
    found = await watch.until(lambda one: one.problem is not None, WORDS_SECONDS)
    assert found.problem is Problem.CRASH_LOOP
    assert (found.generation, found.ready) == (1, 1)
    assert found.detail.startswith("1 of 1 replicas serve. The server ended with exit code 3.")
    assert (await ask(address))["path"] == "/"


async def test_what_the_cluster_does_not_take_is_invalid(target: Target, make_revision: MakeRevision) -> None:
    revision = asking(make_revision(SERVER), tolerations=(Toleration(key="a key with spaces", operator="Exists"),))
    with pytest.raises(Invalid, match=r"tolerations.*name part must consist of"):
        await target.apply(revision)
    revision = replace(make_revision(SERVER), environment={"": "nothing"})
    with pytest.raises(Invalid, match=r"env.*name"):
        await target.apply(revision)


async def test_a_cluster_that_is_away_is_unavailable(
    make_revision: MakeRevision, target_settings: TargetSettings
) -> None:
    known = target_settings()
    assert known.kubeconfig is not None
    lines = known.kubeconfig.get_secret_value().splitlines()
    away = "\n".join(
        line.partition("https://")[0] + 'https://127.0.0.1:9",' if "https://" in line else line for line in lines
    )
    settings = KubernetesTargetSettings.model_validate({**known.model_dump(), "kubeconfig": away})
    target = KubernetesTarget(settings, "troubles", b"", SystemClock())
    try:
        for call in (
            target.observe(),
            target.apply(make_revision(SERVER)),
            target.remove(make_revision("").endpoint_id),
        ):
            with pytest.raises(Unavailable, match=r"https://127\.0\.0\.1:9 does not answer"):
                await call
        (check,) = await target.check()
        assert check.name == "connection"
        assert not check.ok
    finally:
        await target.aclose()


async def test_a_namespace_that_is_missing_is_named(
    make_revision: MakeRevision, target_settings: TargetSettings
) -> None:
    target = KubernetesTarget(target_settings(namespace="nowhere"), "troubles", b"", SystemClock())
    try:
        with pytest.raises(Unavailable, match='"nowhere" not found'):
            await target.apply(make_revision(SERVER))
        checks = {check.name: check for check in await target.check()}
        assert (
            checks["namespace"].message == "There is no namespace nowhere; `kubectl create namespace nowhere` makes it."
        )
    finally:
        await target.aclose()
