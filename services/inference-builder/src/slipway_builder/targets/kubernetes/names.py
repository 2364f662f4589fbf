"""Names and labels of the objects of an endpoint."""

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from slipway_builder.targets.protocol import EndpointRevision

FIELD_MANAGER: Final = "slipway"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
COMPONENT: Final = "app.kubernetes.io/name"
ENDPOINT_COMPONENT: Final = "slipway-endpoint"
ROUTER_COMPONENT: Final = "slipway-router"
INSTALLATION: Final = "slipway/installation"
ENDPOINT_ID: Final = "slipway/endpoint-id"
GENERATION: Final = "slipway/generation"
PREFIX: Final = "slipway/prefix"
SECRETS: Final = "slipway/secrets"

_LABEL_LENGTH: Final = 63
_EDGES: Final = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$")
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, as the API server's paths and RBAC rules name it."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """As manifests have it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "") -> str:
        """Path of the objects of this kind, or of one of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


SECRET: Final = Kind("", "v1", "Secret", "secrets")
SERVICE: Final = Kind("", "v1", "Service", "services")
POD: Final = Kind("", "v1", "Pod", "pods")
EVENT: Final = Kind("", "v1", "Event", "events")
DEPLOYMENT: Final = Kind("apps", "v1", "Deployment", "deployments")
AUTOSCALER: Final = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT: Final = Kind("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")
BUDGET: Final = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
JOB: Final = Kind("batch", "v1", "Job", "jobs")
NETWORK_POLICY: Final = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")

KINDS: Final = {
    kind.kind: kind for kind in (SERVICE, SECRET, NETWORK_POLICY, BUDGET, DEPLOYMENT, AUTOSCALER, SCALED_OBJECT)
}
"""Kinds that an endpoint is made of, in the order in which they are applied.

Secrets may not be listed, so they come after something that is: what a killed builder leaves half applied is seen.
"""


def object_name(endpoint_id: UUID) -> str:
    """Name of an endpoint's objects; 44 characters, so that the names of its pods stay below 63."""
    return f"slipway-{endpoint_id}"


def pull_secret_name(endpoint_id: UUID) -> str:
    """Name of the Secret with the login of the registry."""
    return f"{object_name(endpoint_id)}-pull"


def label_value(text: str) -> str:
    """`text` as far as the value of a label may say it."""
    return _EDGES.sub("", _STRANGE.sub("-", text)[:_LABEL_LENGTH])


def selector(endpoint_id: UUID) -> dict[str, str]:
    """Labels that tell the pods of an endpoint; they can never change."""
    return {ENDPOINT_ID: str(endpoint_id)}


def labels(revision: EndpointRevision, installation: str) -> dict[str, str]:
    """Labels of every object of an endpoint: ids for Slipway, names for people who look into the cluster."""
    return {
        MANAGED_BY: "slipway",
        COMPONENT: ENDPOINT_COMPONENT,
        INSTALLATION: installation,
        ENDPOINT_ID: str(revision.endpoint_id),
        "slipway/version-id": str(revision.version_id),
        "slipway/deployment-id": str(revision.deployment_id),
        "slipway/project-id": str(revision.project_id),
        "slipway/owner": label_value(revision.owner),
        "slipway/project": label_value(revision.project),
        "slipway/deployment": label_value(revision.deployment),
        "slipway/version": label_value(revision.version),
        "slipway/endpoint": label_value(revision.spec.name),
    }
