"""KEDA in the cluster under test: its operator and its metrics server, as processes of the node."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_testing.kubernetes.cluster import KEDA, Cluster
from slipway_testing.kubernetes.fixtures import Kubectl

_GROUP = "external.metrics.k8s.io"
_SERVICE = "keda-metrics-apiserver"
_METRICS_PORT = 4445
_BETWEEN_THEM = "127.0.0.1:9666"
_HEALTH_PORT = 8481
_PATIENCE_SECONDS = 60.0


@contextmanager
def keda_definitions_in(kubectl: Kubectl, definitions: Path) -> Iterator[None]:
    """A cluster that knows KEDA's objects; it forgets them afterwards."""
    files = [word for file in sorted(definitions.glob("*.yaml")) for word in ("-f", str(file))]
    kubectl("apply", "--server-side", *files)
    try:
        _until(lambda: "scaledobjects" in kubectl("api-resources", "--api-group=keda.sh", "-o=name", check=False))
        yield
    finally:
        kubectl("delete", "--wait=false", *files)
        _until(lambda: "keda.sh" not in kubectl("api-versions"))


@contextmanager
def running_keda(cluster: Cluster, kubectl: Kubectl, binaries: Path, definitions: Path) -> Iterator[None]:
    """A cluster with KEDA."""
    certificates = _certificates(cluster.home / "keda")
    access = f"--kubeconfig={cluster.kubeconfig}"
    environment = ("env", "WATCH_NAMESPACE=", "POD_NAMESPACE=kube-system", "KEDA_CLUSTER_OBJECT_NAMESPACE=kube-system")
    metrics, operator = KEDA
    served = cluster.files.served_by_node(_GROUP, _SERVICE, _METRICS_PORT)
    with keda_definitions_in(kubectl, definitions):
        try:
            cluster.run_on_node(
                operator,
                *environment,
                str(binaries / "operator"),
                access,
                f"--cert-dir={certificates}",
                f"--metrics-service-bind-address={_BETWEEN_THEM}",
                "--metrics-bind-address=127.0.0.1:8480",
                f"--health-probe-bind-address={cluster.network.node}:{_HEALTH_PORT}",
                ready=lambda: _listens(cluster.network.node, _HEALTH_PORT),
            )
            cluster.run_on_node(
                metrics,
                *environment,
                str(binaries / "adapter"),
                access,
                *(
                    f"--{kind}-kubeconfig={cluster.kubeconfig}"
                    for kind in ("authentication", "authorization", "lister")
                ),
                f"--cert-dir={certificates}",
                f"--tls-cert-file={certificates}/tls.crt",
                f"--tls-private-key-file={certificates}/tls.key",
                f"--bind-address={cluster.network.node}",
                f"--secure-port={_METRICS_PORT}",
                f"--metrics-service-address={_BETWEEN_THEM}",
                "--port=8482",
                ready=lambda: _listens(cluster.network.node, _METRICS_PORT),
            )
            kubectl.apply(*served, namespace="kube-system")
            _until(lambda: "APIResourceList" in kubectl("get", "--raw", f"/apis/{_GROUP}/v1beta1", check=False))
            yield
        finally:
            # KEDA lets go of its objects itself.
            kubectl("delete", "scaledobjects", "--all", "--all-namespaces", "--timeout=30s", check=False)
            content = json.dumps({"apiVersion": "v1", "kind": "List", "items": served})
            kubectl("delete", "--ignore-not-found", "-f", "-", stdin=content)
            for name in KEDA:
                cluster.end_on_node(name)


def _until(agreed: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not agreed():
        assert time.monotonic() < deadline, "the cluster does not take KEDA's definitions over, or keeps something"
        time.sleep(0.2)


def _certificates(folder: Path) -> Path:
    """What the two show each other."""
    folder.mkdir(exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "tls.key"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    command = ["openssl", "req", "-x509", *key, "-out", "tls.crt", "-subj", "/CN=keda", "-days", "30", *names]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
    return folder


def _listens(host: str, port: int) -> bool:
    socket.create_connection((host, port), timeout=2).close()
    return True
