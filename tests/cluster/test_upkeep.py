"""What others change is corrected, changes drop no request, and removal leaves nothing."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from slipway_builder.targets.kubernetes.names import object_name
from slipway_builder.targets.kubernetes.target import KubernetesTarget
from slipway_builder.targets.protocol import Address, Target
from slipway_kit.clock import SystemClock
from slipway_schemas.inference.versions import Scale
from slipway_testing.conformance.target import SERVER, MakeRevision, MakeTarget, Watch, ask, grown
from slipway_testing.kubernetes.fixtures import Kubectl
from tests.cluster.support import TargetSettings

pytestmark = pytest.mark.kubernetes

EVERYTHING = (
    "deployments,replicasets,pods,services,endpoints,endpointslices,secrets,horizontalpodautoscalers,"
    "poddisruptionbudgets,networkpolicies,persistentvolumeclaims"
)


@pytest.fixture
async def target(make_target: MakeTarget) -> Target:
    return await make_target("upkeep")


async def test_drift_is_corrected(
    target: Target, make_revision: MakeRevision, kubernetes_cluster: Kubectl, namespace: str
) -> None:
    revision = make_revision(SERVER)
    name = object_name(revision.endpoint_id)
    watch = Watch(target, revision.endpoint_id)
    await target.apply(revision)
    await watch.until_serving(1, 1, 30)
    kubernetes_cluster("delete", "service,networkpolicy,secret", name, "-n", namespace)
    kubernetes_cluster("set", "env", f"deployment/{name}", "VALOHAI_PORT=1", "-n", namespace)
    kubernetes_cluster("scale", f"deployment/{name}", "--replicas=3", "-n", namespace)
    await watch.until(lambda one: one.address is None and one.wanted == 3, 10)
    await target.apply(revision)
    address = await watch.until_serving(1, 1, 30)
    seen = (await ask(address))["environment"]
    assert (seen["VALOHAI_PORT"], seen["API_KEY"]) == ("8000", "s3cret $(HOME)")
    kubernetes_cluster("delete", "deployment", name, "-n", namespace)
    assert "missing" in (await watch.until(lambda one: one.ready == 0, 10)).detail
    await target.apply(revision)
    await watch.until_serving(1, 1, 30)


async def test_applying_again_changes_no_object(
    target: Target, make_revision: MakeRevision, kubernetes_cluster: Kubectl, namespace: str
) -> None:
    revision = replace(make_revision(SERVER), scale=Scale(replicas=2, replicas_max=4))

    def written() -> dict[str, str]:
        kinds = "deployments,services,secrets,horizontalpodautoscalers,poddisruptionbudgets,networkpolicies"
        found = kubernetes_cluster.get(kinds, namespace, "app.kubernetes.io/managed-by=slipway")
        return {
            one["kind"]: str(one["metadata"].get("generation", one["metadata"]["resourceVersion"])) for one in found
        }

    await target.apply(revision)
    await Watch(target, revision.endpoint_id).until_serving(1, 2, 30)
    before = written()
    assert len(before) == 6
    for _ in range(3):
        await target.apply(revision)
    assert written() == before


async def test_removal_leaves_nothing(
    target_settings: TargetSettings, make_revision: MakeRevision, kubernetes_cluster: Kubectl, namespace: str
) -> None:
    pull = {"registry": "registry.acme.test", "username": "slipway", "password": "pull me"}
    target = KubernetesTarget(target_settings(pull=pull), "upkeep", b"", SystemClock())

    def names() -> set[tuple[str, str]]:
        found = kubernetes_cluster.get(EVERYTHING, namespace)
        return {(one["kind"], one["metadata"]["name"]) for one in found}

    try:
        before = names()
        revision = replace(make_revision(SERVER), scale=Scale(replicas=2, replicas_max=3))
        watch = Watch(target, revision.endpoint_id)
        await target.apply(revision)
        await watch.until_serving(1, 2, 30)
        assert len(names() - before) >= 12
        await target.remove(revision.endpoint_id)
        await watch.until_gone(40)
        for _ in range(50):
            if names() == before:
                break
            await asyncio.sleep(0.2)
        assert names() == before
    finally:
        await target.aclose()


async def test_a_new_generation_drops_no_request(make_target: MakeTarget, make_revision: MakeRevision) -> None:
    target = await make_target("upkeep")
    revision = replace(make_revision(SERVER), scale=Scale(replicas=2))
    watch = Watch(target, revision.endpoint_id)
    await target.apply(revision)
    address = await watch.until_serving(1, 2, 30)
    answers: Counter[str] = Counter()
    asking = [asyncio.create_task(_ask_on(address, answers)) for _ in range(3)]
    for number in range(2):
        revision = grown(revision, environment={"GREETING": str(number)})
        await target.apply(revision)
        await watch.until_serving(revision.generation, 2, 60)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert set(answers) == {"answered"}
    assert answers["answered"] > 50


async def _ask_on(address: Address, answers: Counter[str]) -> None:
    while True:
        try:
            await ask(address)
        except (OSError, TimeoutError) as error:
            answers[repr(error)] += 1
        else:
            answers["answered"] += 1
        await asyncio.sleep(0.02)


async def test_the_autoscaler_takes_over_and_hands_back_without_losing_replicas(
    target: Target, make_revision: MakeRevision, kubernetes_cluster: Kubectl, namespace: str
) -> None:
    revision = replace(make_revision(SERVER), scale=Scale(replicas=3))
    name = object_name(revision.endpoint_id)
    watch = Watch(target, revision.endpoint_id)
    await target.apply(revision)
    await watch.until_serving(1, 3, 30)

    def replicas() -> int:
        (found,) = kubernetes_cluster.get("deployments", namespace, f"slipway/endpoint-id={revision.endpoint_id}")
        return int(found["spec"]["replicas"])

    revision = grown(revision, scale=Scale(replicas=2, replicas_max=5))
    for _ in range(2):
        await target.apply(revision)
        assert replicas() == 3
    kubernetes_cluster("scale", f"deployment/{name}", "--replicas=4", "-n", namespace)
    await target.apply(revision)
    assert replicas() == 4
    revision = grown(revision, scale=Scale(replicas=1))
    await target.apply(revision)
    assert replicas() == 1
    assert kubernetes_cluster.get("horizontalpodautoscalers,poddisruptionbudgets", namespace) == []
