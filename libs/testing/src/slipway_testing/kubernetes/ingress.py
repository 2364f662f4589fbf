"""The cluster's ingress: Traefik, for Ingress and Gateway API, as a process of the node as metrics-server is one."""

import json
import urllib.error
import urllib.request
from pathlib import Path

from slipway_testing.kubernetes.cluster import INGRESS, Cluster
from slipway_testing.kubernetes.files import API_PORT
from slipway_testing.kubernetes.fixtures import Kubectl

PORT = 80
"""Of the node's address."""
GATEWAY = ("gateways", "public")
"""Namespace and name of the one gateway; routes of all namespaces may use it."""
_API = "gateway.networking.k8s.io/v1"
_CLASSES = (
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY[0]}},
    {
        "apiVersion": _API,
        "kind": "GatewayClass",
        "metadata": {"name": "traefik"},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    },
)


def start_ingress(cluster: Cluster, kubectl: Kubectl, binaries: Path) -> None:
    """Give a cluster the Gateway API and a controller that serves it and Ingress at `network.node`, port 80."""
    kubectl("apply", "--server-side", "-f", str(binaries / "gateway-api"))
    definitions = ("gatewayclasses", "gateways", "httproutes", "referencegrants")
    names = [f"crd/{one}.gateway.networking.k8s.io" for one in definitions]
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    namespace, name = GATEWAY
    kubectl.apply(*_CLASSES)
    kubectl.apply(_gateway(namespace, name), namespace=namespace)
    rules = cluster.home / "ingress.json"
    # A connection that is refused is tried again; under load the turn may come to the same router a few times.
    retry = {"retry": {"attempts": 12, "initialInterval": "2ms"}}
    rules.write_text(json.dumps({"http": {"middlewares": {"again": retry}}}))
    access = {
        "endpoint": f"https://{cluster.network.node}:{API_PORT}",
        "token": cluster.files.tokens["admin"],
        "certAuthFilePath": str(cluster.home / "ca.crt"),
    }
    cluster.run_on_node(
        INGRESS,
        str(binaries / "traefik"),
        f"--entryPoints.web.address={cluster.network.node}:{PORT}",
        "--entryPoints.web.http.middlewares=again@file",
        f"--providers.file.filename={rules}",
        *(f"--providers.kubernetesIngress.{key}={value}" for key, value in access.items()),
        *(f"--providers.kubernetesGateway.{key}={value}" for key, value in access.items()),
        ready=lambda: _answers(f"http://{cluster.network.node}:{PORT}/"),
    )


def _gateway(namespace: str, name: str) -> object:
    routes = {"namespaces": {"from": "All"}}
    listener = {"name": "http", "protocol": "HTTP", "port": PORT, "allowedRoutes": routes}
    return {
        "apiVersion": _API,
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"gatewayClassName": "traefik", "listeners": [listener]},
    }


def _answers(url: str) -> bool:
    """Whether anything answers; without a route that is a 404."""
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    return True
