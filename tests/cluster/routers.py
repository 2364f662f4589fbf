"""Routers as they are shipped, in the cluster behind its ingress, for a target whose builder is outside of it."""

import ipaddress
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway_testing.kubernetes.cluster import Cluster
from slipway_testing.kubernetes.fixtures import Kubectl
from slipway_testing.kubernetes.ingress import PORT
from slipway_testing.router_image import ROUTER_IMAGE
from slipway_testing.wire import Wire

PUBLIC_NAME = "models.example.org"
ROUTERS = 2
ROUTER_PORT = 8088
_SHIPPED = Path("deploy/kubernetes")
_SELECTOR = "app.kubernetes.io/name=slipway-router"
_READY_SECONDS = 60.0

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Routers:
    """The routers of the target in a namespace. Every call waits for kubectl."""

    cluster: Cluster
    kubectl: Kubectl
    namespace: str

    @property
    def ingress_address(self) -> str:
        """Where the ingress connects to routers from: the node, on the bridge of its pods."""
        return str(ipaddress.ip_network(self.cluster.network.pods)[1])

    @property
    def client_address(self) -> str:
        """Where the tests connect to the ingress from."""
        return self.cluster.network.host

    @property
    def url(self) -> str:
        """Origin of the ingress; requests name `PUBLIC_NAME` as their host."""
        return f"http://{self.cluster.network.node}:{PORT}"

    def wire(self) -> Wire:
        """A connection to the ingress."""
        return Wire(PORT, host=self.cluster.network.node)

    def deploy(self, builder_url: str, target_id: object, token: str) -> None:
        """Do what router.yaml says that an operator does, and wait until all are ready."""
        secret = {"name": "slipway-router", "namespace": self.namespace}
        self.kubectl.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": {"token": token}},
            namespace=self.namespace,
        )
        put_in = {
            "registry.example.com/slipway-router:latest": ROUTER_IMAGE,
            "http://slipway-builder.slipway.svc:8443": builder_url,
            "00000000-0000-0000-0000-000000000000": str(target_id),
            '"[]"': json.dumps(json.dumps([f"{self.ingress_address}/32"])),
        }
        self.kubectl.apply(*self._shipped("router", put_in), namespace=self.namespace)
        self.until_ready()

    def open(self, file: str) -> None:
        """Route the public name to the routers, by `ingress` or `gateway-route`."""
        put_in = {"models.example.com": PUBLIC_NAME}
        self.kubectl.apply(*self._shipped(file, put_in), namespace=self.namespace)

    def shut(self, file: str) -> None:
        """Take that route away."""
        kind = "ingress" if file == "ingress" else "httproute"
        self.kubectl("delete", kind, "slipway", "-n", self.namespace)

    def pods(self) -> list[JsonObject]:
        """The pods that are not going away."""
        found = self.kubectl.get("pods", self.namespace, _SELECTOR)
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]

    def until_ready(self, count: int = ROUTERS) -> list[JsonObject]:
        """Wait until so many routers are ready, and return their pods."""
        deadline = time.monotonic() + _READY_SECONDS
        while len(ready := [one for one in self.pods() if is_ready(one)]) < count:
            assert time.monotonic() < deadline, json.dumps([one["status"] for one in self.pods()])
            time.sleep(0.2)
        return ready

    def kill(self, pod: JsonObject) -> None:
        """SIGKILL to a router and its HAProxy; its pod stays, and starts it again."""
        self.cluster.kill_container(pod["status"]["containerStatuses"][0]["containerID"])

    def delete(self, pod: JsonObject) -> None:
        """Take a pod away at once; another one comes in its place."""
        flags = ("--grace-period=0", "--force", "--wait=false")
        self.kubectl("delete", "pod", pod["metadata"]["name"], "-n", self.namespace, *flags)

    def _shipped(self, name: str, put_in: dict[str, str]) -> list[Any]:
        text = (_SHIPPED / f"{name}.yaml").read_text().replace("slipway-endpoints", self.namespace)
        for shown, real in put_in.items():
            assert shown in text, f"{name}.yaml has no {shown} to be replaced"
            text = text.replace(shown, real)
        return list(yaml.safe_load_all(text))


def is_ready(pod: JsonObject) -> bool:
    """Whether a pod gets requests."""
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def restarts(pod: JsonObject) -> int:
    """How often a pod's container was started again."""
    return int(pod["status"]["containerStatuses"][0]["restartCount"])
