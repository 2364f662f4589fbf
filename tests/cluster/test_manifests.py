"""A real API server takes every object that Slipway makes."""

import pytest

from slipway_testing.kubernetes.fixtures import Kubectl
from tests.contract.manifests.variants import VARIANTS

pytestmark = pytest.mark.kubernetes


@pytest.mark.parametrize("name", VARIANTS)
def test_a_dry_run_accepts_all_manifests(name: str, kubernetes_cluster: Kubectl, namespace: str) -> None:
    made = VARIANTS[name].manifests()
    answer = kubernetes_cluster.apply(*made, namespace=namespace, flags=("--server-side", "--dry-run=server"))
    assert len([line for line in answer.splitlines() if "serverside-applied (server dry run)" in line]) == len(made)


def test_restricted_pods_break_no_rule_of_the_namespace_and_root_pods_do(
    kubernetes_cluster: Kubectl, namespace: str
) -> None:
    for name, variant in VARIANTS.items():
        for manifest in variant.manifests():
            if manifest["kind"] != "Deployment":
                continue
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "one"},
                "spec": manifest["spec"]["template"]["spec"],
            }
            flags = ("--server-side", "--dry-run=server")
            answer = kubernetes_cluster.apply(pod, namespace=namespace, flags=flags, check=False)
            assert ("violates PodSecurity" in answer) is (name == "root")
