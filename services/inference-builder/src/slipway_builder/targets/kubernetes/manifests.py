"""The objects of an endpoint, as pure functions of its revision and the target's settings."""

import base64
import hashlib
import hmac
import json
from typing import Any, Final

from slipway_builder.targets.kubernetes.names import (
    AUTOSCALER,
    BUDGET,
    COMPONENT,
    DEPLOYMENT,
    GENERATION,
    KINDS,
    NETWORK_POLICY,
    PREFIX,
    ROUTER_COMPONENT,
    SCALED_OBJECT,
    SECRET,
    SECRETS,
    SERVICE,
    Kind,
    labels,
    object_name,
    pull_secret_name,
    selector,
)
from slipway_builder.targets.kubernetes.pods import PORT_NAME, pod_spec, secret_values
from slipway_builder.targets.kubernetes.settings import ANY_NETWORK, KubernetesTargetSettings, PullLogin
from slipway_builder.targets.protocol import EndpointRevision
from slipway_kit.errors import Invalid

Manifest = dict[str, Any]

_LINK_LOCAL = "169.254.0.0/16"
"""Where clouds hand out the credentials of a node."""

_NODE_DNS = "169.254.20.10/32"
"""Where a node's own DNS cache listens by convention."""

_ROUTERS: Final = "http://slipway-router-health.{namespace}.svc:8089"
"""The Service of `deploy/kubernetes/router.yaml` with the routers' health port. KEDA asks each pod behind it, and takes
the first two parts of the name for service and namespace, with the port when no third one stands before it."""

_POLL_SECONDS: Final = 2
"""How often KEDA asks: a request that wakes an endpoint waits half of it on average before anything happens."""

_NEVER_BY_REQUESTS: Final = "1000000"
"""Requests that one more replica would be started for: they wake an endpoint, and the CPUs' use does the rest."""


def manifests(
    revision: EndpointRevision, settings: KubernetesTargetSettings, installation: str, key: bytes
) -> tuple[Manifest, ...]:
    """All objects of the endpoint, in the order in which they are applied.

    `key` is a secret of the installation: pods start again when a secret variable changes, so they carry a mark of
    the values, which must not help anybody to guess them. Raises `Invalid` for what the target does not take.
    """
    _check_scale(revision, settings)
    found = [_deployment(revision, settings, installation, key), _service(revision, installation)]
    values = secret_values(revision)
    if values:
        found.insert(0, _secret(revision, installation, object_name(revision.endpoint_id), "Opaque", dict(values)))
    if settings.pull is not None:
        found.insert(0, _pull_secret(revision, settings.pull, installation))
    if settings.network_policy:
        found.append(_network_policy(revision, settings, installation))
    if revision.scale.replicas > 1:
        found.append(_budget(revision, installation))
    if sleeps(revision):
        found.append(_scaled_object(revision, settings, installation))
    elif autoscaled(revision):
        found.append(_autoscaler(revision, settings, installation))
    order = list(KINDS)
    return tuple(sorted(found, key=lambda one: order.index(one["kind"])))


def autoscaled(revision: EndpointRevision) -> bool:
    """Whether the cluster decides on the number of replicas, between bounds."""
    most = revision.scale.replicas_max
    return most is not None and most > revision.scale.replicas > 0


def sleeps(revision: EndpointRevision) -> bool:
    """Whether KEDA decides on the number of replicas, and may take the last one away.

    Not before a replica was ready: a version that cannot serve is not to be taken for one that is asleep.
    """
    return revision.scale.to_zero and revision.proven


def _check_scale(revision: EndpointRevision, settings: KubernetesTargetSettings) -> None:
    wanted = max(revision.scale.replicas, revision.scale.replicas_max or 0)
    if wanted > settings.max_replicas:
        raise Invalid(
            f"The endpoint {revision.spec.name} asks for up to {wanted} replicas, and this target allows "
            f"{settings.max_replicas}; ask for fewer, or let an administrator raise the target's limit."
        )


def _object(
    kind: Kind, revision: EndpointRevision, installation: str, name: str = "", annotations: dict[str, str] | None = None
) -> Manifest:
    metadata: dict[str, Any] = {
        "name": name or object_name(revision.endpoint_id),
        "labels": labels(revision, installation),
        "annotations": {PREFIX: revision.prefix, **(annotations or {})},
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _deployment(
    revision: EndpointRevision, settings: KubernetesTargetSettings, installation: str, key: bytes
) -> Manifest:
    annotations = {GENERATION: str(revision.generation)}
    marks = {PREFIX: revision.prefix}
    values = secret_values(revision)
    if values:
        marks[SECRETS] = hmac.new(key, json.dumps(values, sort_keys=True).encode(), hashlib.sha256).hexdigest()
    spec = {
        "replicas": 1 if revision.scale.to_zero else revision.scale.replicas,
        "revisionHistoryLimit": 1,
        "progressDeadlineSeconds": settings.start_seconds,
        "selector": {"matchLabels": selector(revision.endpoint_id)},
        # A replica goes only after its successor takes requests.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": labels(revision, installation), "annotations": marks},
            "spec": pod_spec(revision, settings),
        },
    }
    return _object(DEPLOYMENT, revision, installation, annotations=annotations) | {"spec": spec}


def _service(revision: EndpointRevision, installation: str) -> Manifest:
    port = {"name": PORT_NAME, "port": revision.spec.port, "targetPort": PORT_NAME, "protocol": "TCP"}
    spec = {"type": "ClusterIP", "selector": selector(revision.endpoint_id), "ports": [port]}
    return _object(SERVICE, revision, installation) | {"spec": spec}


def _budget(revision: EndpointRevision, installation: str) -> Manifest:
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(revision.endpoint_id)},
    }
    return _object(BUDGET, revision, installation) | {"spec": spec}


def _autoscaler(revision: EndpointRevision, settings: KubernetesTargetSettings, installation: str) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": revision.scale.cpu_percent}
    spec = {
        "scaleTargetRef": _scaled(revision),
        "minReplicas": revision.scale.replicas,
        "maxReplicas": revision.scale.replicas_max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "behavior": _behavior(settings),
    }
    return _object(AUTOSCALER, revision, installation) | {"spec": spec}


def _scaled_object(revision: EndpointRevision, settings: KubernetesTargetSettings, installation: str) -> Manifest:
    triggers = [_load_trigger(revision, origin, aggregated=False) for origin in settings.router_load]
    if not triggers:
        origin = _ROUTERS.format(namespace=settings.namespace)
        triggers = [_load_trigger(revision, origin, aggregated=True)]
    if (revision.scale.replicas_max or 0) > 1:
        cpu = {"value": str(revision.scale.cpu_percent)}
        triggers.append({"type": "cpu", "metricType": "Utilization", "metadata": cpu})
    spec = {
        "scaleTargetRef": _scaled(revision),
        "minReplicaCount": 0,
        "maxReplicaCount": revision.scale.replicas_max,
        "pollingInterval": _POLL_SECONDS,
        "cooldownPeriod": settings.scale_down_seconds,
        "initialCooldownPeriod": settings.scale_down_seconds,
        "triggers": triggers,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(settings)}},
    }
    return _object(SCALED_OBJECT, revision, installation) | {"spec": spec}


def _load_trigger(revision: EndpointRevision, origin: str, *, aggregated: bool) -> dict[str, Any]:
    """Any request that arrives, waits or is answered keeps the endpoint awake."""
    metadata = {
        "url": f"{origin}/load/{revision.endpoint_id}",
        "format": "json",
        "valueLocation": "requests",
        "activationTargetValue": "0",
        "targetValue": _NEVER_BY_REQUESTS,
    }
    if aggregated:
        metadata |= {"aggregateFromKubeServiceEndpoints": "true", "aggregationType": "sum"}
    return {"type": "metrics-api", "metricType": "AverageValue", "metadata": metadata}


def _scaled(revision: EndpointRevision) -> dict[str, str]:
    name = object_name(revision.endpoint_id)
    return {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": name}


def _behavior(settings: KubernetesTargetSettings) -> dict[str, Any]:
    return {"scaleDown": {"stabilizationWindowSeconds": settings.scale_down_seconds}}


def _network_policy(revision: EndpointRevision, settings: KubernetesTargetSettings, installation: str) -> Manifest:
    routers: list[dict[str, Any]] = [
        {"podSelector": {"matchLabels": {COMPONENT: ROUTER_COMPONENT}}, "namespaceSelector": {}}
    ]
    routers += [{"ipBlock": {"cidr": network}} for network in settings.allow_from]
    spec = {
        "podSelector": {"matchLabels": selector(revision.endpoint_id)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": routers, "ports": [{"port": revision.spec.port, "protocol": "TCP"}]}],
        "egress": [
            {
                "to": [
                    # Some networks do not count pods as addresses.
                    {"namespaceSelector": {}},
                    {"ipBlock": {"cidr": ANY_NETWORK, "except": [_LINK_LOCAL]}},
                    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
                ]
            },
            {
                "to": [{"ipBlock": {"cidr": _NODE_DNS}}],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
        ],
    }
    return _object(NETWORK_POLICY, revision, installation) | {"spec": spec}


def _secret(
    revision: EndpointRevision, installation: str, name: str, secret_type: str, values: dict[str, str]
) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return _object(SECRET, revision, installation, name) | {"type": secret_type, "data": data}


def _pull_secret(revision: EndpointRevision, login: PullLogin, installation: str) -> Manifest:
    password = login.password.get_secret_value()
    proof = base64.b64encode(f"{login.username}:{password}".encode()).decode()
    entry = {"username": login.username, "password": password, "auth": proof}
    config = json.dumps({"auths": {login.registry: entry}}, sort_keys=True)
    name = pull_secret_name(revision.endpoint_id)
    return _secret(revision, installation, name, "kubernetes.io/dockerconfigjson", {".dockerconfigjson": config})
