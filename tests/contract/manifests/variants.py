"""Revisions and settings that between them use everything that manifests can hold."""

from dataclasses import dataclass, replace
from uuid import UUID

from slipway_builder.targets.kubernetes.manifests import Manifest, manifests
from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_builder.targets.protocol import EndpointRevision
from slipway_schemas.inference.versions import (
    Bounds,
    EndpointResources,
    EndpointSpec,
    Scale,
    SharedVolume,
    Toleration,
    WorkspaceVolume,
)

IMAGE = "registry.acme.test/slipway/reader@sha256:" + "0a" * 32

PLAIN = EndpointRevision(
    endpoint_id=UUID("01900000-0000-7000-8000-000000000001"),
    generation=7,
    version_id=UUID("01900000-0000-7000-8000-000000000002"),
    deployment_id=UUID("01900000-0000-7000-8000-000000000003"),
    project_id=UUID("01900000-0000-7000-8000-000000000004"),
    owner="acme",
    project="digits",
    deployment="reader",
    version="20261121.0",
    image=IMAGE,
    command=("sh", "-c", "uvicorn server:app --port $VALOHAI_PORT"),
    spec=EndpointSpec(name="predict", image="python:3.12"),
    scale=Scale(),
    environment={"GREETING": "hello $(HOME)"},
)
FULL_SPEC = EndpointSpec(
    name="predict",
    image="python:3.12",
    port=9000,
    node_selector={"disk": "ssd", "pool": "theirs"},
    tolerations=(Toleration(key="gpu", operator="Exists", effect="NoSchedule"),),
    resources=EndpointResources(
        cpu=Bounds(min=0.25, max=2),
        memory_bytes=Bounds(min=256_000_000, max=1_000_000_000),
        ephemeral_storage_bytes=Bounds(min=100_000_000, max=2_000_000_000),
        devices={"nvidia.com/gpu": 1},
    ),
    workspace_volume=WorkspaceVolume(mount_path="/work", size_gib=5),
    shared_volumes=(
        SharedVolume(claim="models", mount_path="/models", sub_path="digits", read_only=True),
        SharedVolume(claim="models", mount_path="/cache"),
        SharedVolume(claim="lists", mount_path="/lists"),
    ),
)
FULL = replace(
    PLAIN,
    owner="a-very-long-owner-name-that-is-as-long-as-a-slug-may-be-and-ends-.",
    spec=FULL_SPEC,
    scale=Scale(replicas=2, replicas_max=10, cpu_percent=60),
    environment={"GREETING": "hello", "API_KEY": "the secret one wins", "VH_JOB_ID": "never", "VALOHAI_PORT": "never"},
    secret_environment={"API_KEY": "s3cret", "VH_DEFAULT_PREFIX": "never"},
)


def settings(**changes: object) -> KubernetesTargetSettings:
    """Settings of a target whose cluster is never asked."""
    return KubernetesTargetSettings.model_validate({"namespace": "endpoints", **changes})


PULL = {"registry": "registry.acme.test", "username": "slipway", "password": "pull me"}


@dataclass(frozen=True)
class Variant:
    """One way of being deployed."""

    revision: EndpointRevision
    settings: KubernetesTargetSettings

    def manifests(self) -> tuple[Manifest, ...]:
        """The objects."""
        return manifests(self.revision, self.settings, "acme", b"a key")


VARIANTS = {
    "plain": Variant(PLAIN, settings()),
    "full": Variant(
        FULL,
        settings(
            pull=PULL,
            storage_class="fast",
            node_selector={"pool": "endpoints"},
            tolerations=[{"key": "endpoints", "operator": "Equal", "value": "only", "effect": "NoExecute"}],
            allow_from=["10.1.0.0/16"],
            memory_limit_bytes=500_000_000,
        ),
    ),
    "root": Variant(PLAIN, settings(root_allowed=["/acme/digits"], network_policy=False, drain_seconds=0)),
    "stopped": Variant(replace(PLAIN, scale=Scale(replicas=0)), settings(memory_limit_bytes=1_000_000)),
    "unproven": Variant(replace(PLAIN, scale=Scale(replicas=0, replicas_max=3)), settings()),
    "sleeping": Variant(replace(PLAIN, scale=Scale(replicas=0, replicas_max=3), proven=True), settings()),
    "sleeping-one": Variant(
        replace(PLAIN, scale=Scale(replicas=0, replicas_max=1), proven=True),
        settings(router_load=["http://10.1.0.5:8089", "http://10.1.0.6:8089"], scale_down_seconds=60),
    ),
}
