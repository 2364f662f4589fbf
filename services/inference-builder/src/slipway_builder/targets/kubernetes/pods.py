"""The pod of an endpoint: what runs, as whom, with which resources, and when it takes requests."""

from collections.abc import Mapping
from typing import Any

from slipway_builder.images.protocol import ENDPOINT_UID, HOME_DIRECTORY, WORK_DIRECTORY
from slipway_builder.targets.kubernetes.names import ENDPOINT_ID, object_name, pull_secret_name
from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_builder.targets.protocol import EndpointRevision
from slipway_kit.errors import Invalid
from slipway_schemas.inference.versions import Bounds, Toleration

CONTAINER = "endpoint"
PORT_NAME = "http"
WORKSPACE = "workspace"
LOGIN = "login"
_LOGIN_PATH = "/run/slipway"
FORBIDDEN_VARIABLES = frozenset({"VH_JOB_ID"})
"""Makes the client library believe that it runs in an execution (contract 4.7)."""

_SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def pod_spec(revision: EndpointRevision, settings: KubernetesTargetSettings) -> dict[str, Any]:
    """Return the specification of a replica. Raises `Invalid` for a shared volume that hides the workspace."""
    spec = revision.spec
    root = settings.allows_root(revision.prefix)
    mounts, volumes = _volumes(revision, settings)
    container = {
        "name": CONTAINER,
        "image": revision.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [_literal(word) for word in revision.command],
        "workingDir": WORK_DIRECTORY,
        "ports": [{"name": PORT_NAME, "containerPort": spec.port, "protocol": "TCP"}],
        "env": _environment(revision),
        "resources": _resources(revision, settings),
        "securityContext": _container_security(root),
        # A connection is all that can be asked of a server whose paths nobody knows (contract 4.6).
        "startupProbe": _connects(period=1, failures=settings.start_seconds),
        "readinessProbe": _connects(period=2, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": settings.drain_seconds}}},
        # The last lines of a server that failed become part of the pod's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if not settings.drain_seconds:
        del container["lifecycle"]
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(root),
        "terminationGracePeriodSeconds": settings.drain_seconds + settings.stop_seconds,
        "nodeSelector": {**spec.node_selector, **settings.node_selector},
        "tolerations": [_toleration(one) for one in (*settings.tolerations, *spec.tolerations)],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {ENDPOINT_ID: str(revision.endpoint_id)}},
            }
            for key in _SPREAD_OVER
        ],
        "containers": [container],
        "volumes": volumes,
    }
    if settings.pull is not None:
        pod["imagePullSecrets"] = [{"name": pull_secret_name(revision.endpoint_id)}]
    return pod


def platform_environment(revision: EndpointRevision) -> dict[str, str]:
    """Variables that nobody may set otherwise (contract 4.3, 4.7)."""
    return {
        "HOME": HOME_DIRECTORY,
        "VALOHAI_PORT": str(revision.spec.port),
        "VH_DEFAULT_PREFIX": revision.prefix,
    }


def secret_values(revision: EndpointRevision) -> Mapping[str, str]:
    """Secret variables that the pods get."""
    platform = platform_environment(revision)
    return {
        name: value
        for name, value in sorted(revision.secret_environment.items())
        if name not in platform and name not in FORBIDDEN_VARIABLES
    }


def _environment(revision: EndpointRevision) -> list[dict[str, Any]]:
    secret = secret_values(revision)
    plain = {
        name: value
        for name, value in {**revision.environment, **platform_environment(revision)}.items()
        if name not in secret and name not in FORBIDDEN_VARIABLES
    }
    found: dict[str, dict[str, Any]] = {name: {"value": _literal(value)} for name, value in plain.items()}
    for name in secret:
        found[name] = {"valueFrom": {"secretKeyRef": {"name": object_name(revision.endpoint_id), "key": name}}}
    return [{"name": name, **found[name]} for name in sorted(found)]


def _literal(text: str) -> str:
    """Kubernetes replaces `$(NAME)` in commands and values; nobody who wrote this text asked for it."""
    return text.replace("$", "$$")


def _resources(revision: EndpointRevision, settings: KubernetesTargetSettings) -> dict[str, Any]:
    wanted = revision.spec.resources
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    defaults = {"cpu": settings.cpu_request, "memory": float(settings.memory_request_bytes)}
    bounds = {"cpu": wanted.cpu, "memory": wanted.memory_bytes, "ephemeral-storage": wanted.ephemeral_storage_bytes}
    for name, bound in bounds.items():
        least, most = _least_and_most(bound, defaults.get(name, 0.0), settings if name == "memory" else None)
        if least:
            requests[name] = _quantity(name, least)
        if most is not None:
            limits[name] = _quantity(name, most)
    for name, count in wanted.devices.items():
        limits[name] = str(count)
    return {"requests": requests, "limits": limits}


def _least_and_most(
    bound: Bounds, default: float, settings: KubernetesTargetSettings | None
) -> tuple[float, float | None]:
    most = bound.max
    if most is None and settings is not None and settings.memory_limit_bytes is not None:
        most = max(float(settings.memory_limit_bytes), bound.min or 0.0)
    least = default if bound.min is None else bound.min
    # What is reserved by default must not be above the limit that somebody chose.
    return (min(least, most), most) if bound.min is None and most is not None else (least, most)


def _quantity(name: str, amount: float) -> str:
    return f"{round(amount * 1000)}m" if name == "cpu" else str(round(amount))


def _pod_security(root: bool) -> dict[str, Any]:
    context: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if root:
        return context
    return context | {
        "runAsNonRoot": True,
        "runAsUser": ENDPOINT_UID,
        "runAsGroup": ENDPOINT_UID,
        "fsGroup": ENDPOINT_UID,
        "fsGroupChangePolicy": "OnRootMismatch",
    }


def _container_security(root: bool) -> dict[str, Any]:
    context: dict[str, Any] = {"allowPrivilegeEscalation": False, "privileged": False}
    return context if root else context | {"capabilities": {"drop": ["ALL"]}}


def _connects(*, period: int, failures: int) -> dict[str, Any]:
    return {
        "tcpSocket": {"port": PORT_NAME},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _toleration(toleration: Toleration) -> dict[str, Any]:
    return toleration.model_dump(exclude_none=True)


def _volumes(
    revision: EndpointRevision, settings: KubernetesTargetSettings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    workspace = revision.spec.workspace_volume
    if workspace is not None:
        claim: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{workspace.size_gib}Gi"}},
        }
        storage_class = workspace.storage_class or settings.storage_class
        if storage_class is not None:
            claim["storageClassName"] = storage_class
        volumes.append({"name": WORKSPACE, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}})
        mounts.append({"name": WORKSPACE, "mountPath": workspace.mount_path})
    claims = sorted({shared.claim for shared in revision.spec.shared_volumes})
    names = {claim: f"shared-{number}" for number, claim in enumerate(claims)}
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for claim, name in names.items()]
    for shared in revision.spec.shared_volumes:
        mount: dict[str, Any] = {"name": names[shared.claim], "mountPath": shared.mount_path}
        if shared.sub_path is not None:
            mount["subPath"] = shared.sub_path
        if shared.read_only:
            mount["readOnly"] = True
        mounts.append(mount)
    if settings.pull is not None:
        # A kubelet that has not read the login in time pulls without it, is refused, and waits for ten seconds. For
        # volumes it waits before it pulls: this one shows none of the secret and is ready when the secret was read.
        nothing = {"name": pull_secret_name(revision.endpoint_id), "items": [{"key": "none", "path": "none"}]}
        volumes.append({"name": LOGIN, "projected": {"sources": [{"secret": {**nothing, "optional": True}}]}})
        mounts.append({"name": LOGIN, "mountPath": _LOGIN_PATH, "readOnly": True})
    taken = [mount["mountPath"].rstrip("/") for mount in mounts]
    for path in taken:
        if taken.count(path) > 1:
            raise Invalid(
                f"Two volumes of the endpoint {revision.spec.name} are mounted at {path}; give each its own path."
            )
    return mounts, volumes
