"""Turns what the cluster lists into what is said of each endpoint."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from slipway_builder.targets.kubernetes.names import ENDPOINT_ID, GENERATION
from slipway_builder.targets.kubernetes.words import (
    Trouble,
    explain_pod,
    explain_refusal,
    explain_sleep,
    pod_ready,
    restarts,
)
from slipway_builder.targets.protocol import Address, Observation

Listed = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything of this installation that one pass has read from the cluster."""

    deployments: Iterable[Listed]
    services: Iterable[Listed]
    pods: Iterable[Listed]
    events: Iterable[Listed]
    """Warnings of the namespace."""
    scaled: Iterable[Listed] = ()
    """What KEDA says of those that it scales."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation, and the pod whose own log would make it say more."""

    observation: Observation
    ask_pod: str | None = None


@dataclass(slots=True)
class _Parts:
    deployment: Listed | None = None
    service: Listed | None = None
    scaled: Listed | None = None
    pods: list[Listed] = field(default_factory=list)


def seen(listing: Listing, now: datetime) -> dict[UUID, Seen]:
    """What is known of every endpoint that has a deployment or a service."""
    parts: dict[UUID, _Parts] = defaultdict(_Parts)
    for one in listing.deployments:
        parts[_endpoint(one)].deployment = one
    for one in listing.services:
        parts[_endpoint(one)].service = one
    for one in listing.scaled:
        parts[_endpoint(one)].scaled = one
    for one in listing.pods:
        parts[_endpoint(one)].pods.append(one)
    warnings: dict[str, list[Listed]] = defaultdict(list)
    for event in sorted(listing.events, key=_event_time):
        warnings[str(event.get("involvedObject", {}).get("uid", ""))].append(event)
    return {
        endpoint: _observe(endpoint, found, warnings, now)
        for endpoint, found in parts.items()
        if found.deployment is not None or found.service is not None
    }


def _endpoint(listed: Listed) -> UUID:
    return UUID(listed["metadata"]["labels"][ENDPOINT_ID])


def _event_time(event: Listed) -> str:
    metadata = event.get("metadata", {})
    return str(event.get("lastTimestamp") or event.get("eventTime") or metadata.get("creationTimestamp") or "")


def _observe(endpoint: UUID, parts: _Parts, warnings: Mapping[str, list[Listed]], now: datetime) -> Seen:
    address = _address(parts.service)
    deployment = parts.deployment
    if deployment is None:
        return Seen(Observation(endpoint, 0, 0, 0, address, detail="Its deployment is missing on the cluster."))
    pods = [pod for pod in parts.pods if "deletionTimestamp" not in pod["metadata"]]
    wanted = int(deployment["spec"].get("replicas", 1))
    ready = sum(pod_ready(pod) for pod in pods)
    found = Observation(
        endpoint,
        # Without a service nothing of this generation can be reached: it is not out.
        generation=_generation(deployment) - (address is None),
        wanted=wanted,
        ready=ready,
        address=address,
        restarts=sum(restarts(pod) for pod in pods),
    )
    if "deletionTimestamp" in deployment["metadata"]:
        return Seen(replace(found, detail="It is being removed from the cluster."))
    trouble, asked = _trouble(deployment, pods, warnings, now)
    if trouble is None and not wanted and parts.scaled is not None:
        trouble = explain_sleep(parts.scaled)
    if trouble is None:
        return Seen(found)
    detail = trouble.words if not ready else f"{ready} of {wanted} replicas serve. {trouble.words}"
    found = replace(found, problem=trouble.problem, detail=detail, last_lines=trouble.last_lines)
    return Seen(found, asked if trouble.asks_for_log else None)


def _generation(deployment: Listed) -> int:
    """The generation whose pods are out; one less while it is still rolling out."""
    metadata, status, spec = deployment["metadata"], deployment.get("status", {}), deployment["spec"]
    wanted = int(metadata.get("annotations", {}).get(GENERATION, 0))
    replicas = int(spec.get("replicas", 1))
    out = (
        int(status.get("observedGeneration", 0)) >= int(metadata.get("generation", 0))
        and int(status.get("updatedReplicas", 0)) == replicas
        and int(status.get("replicas", 0)) == replicas
    )
    return wanted if out else wanted - 1


def _address(service: Listed | None) -> Address | None:
    if service is None or "deletionTimestamp" in service["metadata"]:
        return None
    spec = service["spec"]
    return Address(spec["clusterIP"], int(spec["ports"][0]["port"])) if spec.get("clusterIP") else None


def _trouble(
    deployment: Listed, pods: list[Listed], warnings: Mapping[str, list[Listed]], now: datetime
) -> tuple[Trouble | None, str | None]:
    """The reason of the newest pod that has one: it was made from what is wanted now."""
    for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp", "")), reverse=True):
        if pod_ready(pod):
            continue
        found = explain_pod(pod, warnings.get(pod["metadata"]["uid"], ()), now)
        if found is not None:
            return found, str(pod["metadata"]["name"])
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return explain_refusal(str(condition.get("message", ""))), None
    return None, None
