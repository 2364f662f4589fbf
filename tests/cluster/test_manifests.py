"""A real API server takes every object that Slipway makes."""

from pathlib import Path

import pytest
import yaml

from slipway_testing.kubernetes.fixtures import Kubectl
from tests.contract.manifests.variants import VARIANTS

pytestmark = pytest.mark.kubernetes


@pytest.mark.parametrize("name", VARIANTS)
def test_a_dry_run_accepts_all_manifests(
    name: str, kubernetes_cluster: Kubectl, namespace: str, request: pytest.FixtureRequest
) -> None:
    made = VARIANTS[name].manifests()
    if any(one["kind"] == "ScaledObject" for one in made):
        request.getfixturevalue("keda_definitions")
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


@pytest.mark.parametrize("file", ["account", "router", "ingress"])
def test_a_dry_run_accepts_the_shipped_files(file: str, kubernetes_cluster: Kubectl, namespace: str) -> None:
    text = Path(f"deploy/kubernetes/{file}.yaml").read_text().replace("slipway-endpoints", namespace)
    shipped = [one for one in yaml.safe_load_all(text) if one["kind"] != "Namespace"]
    answer = kubernetes_cluster.apply(*shipped, namespace=namespace, flags=("--server-side", "--dry-run=server"))
    assert answer.count("serverside-applied (server dry run)") == len(shipped)
    for one in shipped:
        if one["kind"] == "Deployment":
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "a"},
                "spec": one["spec"]["template"]["spec"],
            }
            kubernetes_cluster.apply(pod, namespace=namespace, flags=("--server-side", "--dry-run=server"))
