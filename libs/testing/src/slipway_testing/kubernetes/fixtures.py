"""Fixtures for tests against a real cluster: the one that is named, or one that is started for this test process."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.programs import KUBECONFIG_VARIABLE, programs
from slipway_testing.tools import TEST_IMAGE, find_tool

IMAGE_VARIABLE = "SLIPWAY_TEST_CLUSTER_IMAGE"
"""An image with Python 3 that the named cluster can run."""


@dataclass(frozen=True)
class Kubectl:
    """A cluster, by its administrator."""

    program: Path
    kubeconfig: Path
    image: str
    """An image with Python 3 that the nodes have or can pull."""
    cluster: Cluster | None = None
    """The cluster, where this test process has started it."""

    def __call__(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl; what it says. Raises `AssertionError` with its error output when it fails and `check` is set."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", "--request-timeout=20s", *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def apply(
        self, *manifests: object, namespace: str = "default", flags: tuple[str, ...] = (), check: bool = True
    ) -> str:
        """Apply objects as the administrator."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        return self("apply", "-n", namespace, *flags, "-f", "-", stdin=content, check=check)

    def get(self, what: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """The objects of some kinds (comma list) in a namespace."""
        found = json.loads(self("get", what, "-n", namespace, "-l", selector, "-o", "json"))
        items: list[dict[str, Any]] = found["items"]
        return items


@pytest.fixture(scope="session")
def kubernetes_cluster(request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """The cluster under test; mark the tests that use it with `kubernetes`."""
    named = os.environ.get(KUBECONFIG_VARIABLE)
    binaries = programs(request.config.rootpath)
    if named:
        built = binaries / "kubectl" if binaries is not None else None
        program = built if built is not None and built.exists() else Path(find_tool("kubectl") or "kubectl")
        yield Kubectl(program, Path(named), os.environ.get(IMAGE_VARIABLE, TEST_IMAGE))
        return
    assert binaries is not None, "the group kubernetes has found the programs"
    cluster = Cluster.claim(binaries)
    cluster.start()
    try:
        yield Kubectl(cluster.kubectl, cluster.kubeconfig, TEST_IMAGE, cluster)
    finally:
        cluster.stop()


@pytest.fixture
def namespace(kubernetes_cluster: Kubectl) -> Iterator[str]:
    """An empty namespace at the strictest pod security level."""
    name = f"slipway-test-{uuid4().hex[:12]}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    kubernetes_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    kubernetes_cluster("delete", "namespace", name, "--wait=false")
