"""Tests what the target's account may do on the cluster, and what the cluster has."""

import asyncio
from dataclasses import replace
from typing import Any, Final

from slipway_builder.targets.kubernetes.client import ClusterApi
from slipway_builder.targets.kubernetes.settings import BuildSettings, KubernetesTargetSettings
from slipway_builder.targets.protocol import TargetCheck
from slipway_kit.errors import NotFound, SlipwayError

OLDEST_MINOR: Final = 30
"""Kubernetes 1.30 knows the pause before a stop that needs no program in the image."""

WRITE: Final = ("create", "patch", "delete")
RIGHTS: Final = (
    ("apps", "deployments", ("get", "list", *WRITE)),
    ("", "services", ("list", *WRITE)),
    ("", "secrets", WRITE),
    ("", "pods", ("list",)),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
    ("autoscaling", "horizontalpodautoscalers", ("list", *WRITE)),
    ("policy", "poddisruptionbudgets", ("list", *WRITE)),
    ("networking.k8s.io", "networkpolicies", ("list", *WRITE)),
)
"""What Slipway does in the namespace; `deploy/kubernetes/account.yaml` grants it."""

KEDA_RIGHT: Final = ("keda.sh", "scaledobjects", ("list", *WRITE))
KEDA_API: Final = "/apis/keda.sh/v1alpha1"
NO_KEDA: Final = (
    "This cluster has no KEDA (scaledobjects.keda.sh), so an endpoint cannot scale to zero. "
    "Install KEDA 2.20 or newer, or ask for at least one replica."
)

BUILD_RIGHTS: Final = (
    ("batch", "jobs", ("list", "create", "delete")),
    ("", "secrets", ("create",)),
    ("", "pods", ("list",)),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)
"""What the builder `buildkit` does in its namespace; `deploy/kubernetes/builds.yaml` grants it."""

_LEVEL: Final = "pod-security.kubernetes.io/enforce"


async def check_cluster(api: ClusterApi, settings: KubernetesTargetSettings) -> tuple[TargetCheck, ...]:
    """All checks; when the cluster does not answer, that alone."""
    try:
        version = await api.get("/version")
    except SlipwayError as error:
        return (TargetCheck("connection", ok=False, message=error.message),)
    connection = _version(version)
    namespace, *rest = await asyncio.gather(
        _namespace(api, settings),
        *(_right(api, settings.namespace, *right) for right in RIGHTS),
        _has_api(
            api,
            "autoscaling (optional)",
            "/apis/metrics.k8s.io/v1beta1",
            "The cluster measures no CPU use, so endpoints keep the lowest number of replicas that they ask for; "
            "install metrics-server.",
        ),
        _has_api(
            api,
            "Gateway API (optional)",
            "/apis/gateway.networking.k8s.io/v1",
            "The cluster has no Gateway API; the target's wildcard route must be an Ingress.",
        ),
        _keda(api, settings.namespace),
    )
    return (connection, namespace, *rest, *await _builds(api, settings.builds))


async def _builds(api: ClusterApi, builds: BuildSettings | None) -> list[TargetCheck]:
    """What builds in the cluster need; nothing where there are none."""
    if builds is None:
        return []
    rights = (_right(api, builds.namespace, *right) for right in BUILD_RIGHTS)
    found = await asyncio.gather(_build_namespace(api, builds.namespace), *rights)
    return [replace(one, name=f"builds: {one.name}") for one in found]


async def _build_namespace(api: ClusterApi, name: str) -> TargetCheck:
    level, problem = await _level(api, name)
    if problem is None and level != "privileged":
        problem = (
            f"Its pod security level is {level}, under which BuildKit cannot run without root; "
            f"`kubectl label namespace {name} {_LEVEL}=privileged --overwrite` changes it. Put nothing else into it."
        )
    return TargetCheck("namespace", ok=problem is None, message=problem or f"{name}, pod security level {level}")


def _version(version: dict[str, Any]) -> TargetCheck:
    name = str(version.get("gitVersion", "unknown"))
    minor = "".join(one for one in str(version.get("minor", "")) if one.isdecimal())
    if minor and int(minor) < OLDEST_MINOR:
        message = f"The cluster runs Kubernetes {name}; endpoints need 1.{OLDEST_MINOR} or newer."
        return TargetCheck("connection", ok=False, message=message)
    return TargetCheck("connection", ok=True, message=f"Kubernetes {name}")


async def _namespace(api: ClusterApi, settings: KubernetesTargetSettings) -> TargetCheck:
    name = settings.namespace
    level, problem = await _level(api, name)
    if problem is not None:
        return TargetCheck("namespace", ok=False, message=problem)
    if settings.root_allowed and level == "restricted":
        message = f"Its pod security level is restricted, so the endpoints below {', '.join(settings.root_allowed)} "
        return TargetCheck("namespace", ok=False, message=f"{message}cannot run as root; set {_LEVEL} to baseline.")
    return TargetCheck("namespace", ok=True, message=f"{name}, pod security level {level}")


async def _level(api: ClusterApi, name: str) -> tuple[str, str | None]:
    """The pod security level of a namespace, and what is wrong where it cannot be read."""
    try:
        found = await api.get(f"/api/v1/namespaces/{name}")
    except NotFound:
        return "", f"There is no namespace {name}; `kubectl create namespace {name}` makes it."
    except SlipwayError as error:
        return "", f"{error.message}. Add the rule: {_rule('', 'namespaces', ('get',))}"
    return str(found["metadata"].get("labels", {}).get(_LEVEL, "privileged")), None


async def _right(api: ClusterApi, namespace: str, group: str, resource: str, verbs: tuple[str, ...]) -> TargetCheck:
    name = f"permission {resource}"
    try:
        allowed = await asyncio.gather(*(_may(api, namespace, group, resource, verb) for verb in verbs))
    except SlipwayError as error:
        return TargetCheck(name, ok=False, message=error.message)
    missing = tuple(verb for verb, may in zip(verbs, allowed, strict=True) if not may)
    if not missing:
        return TargetCheck(name, ok=True, message=", ".join(verbs))
    words = f"The account may not {', '.join(missing)} {resource} in the namespace {namespace}."
    return TargetCheck(name, ok=False, message=f"{words} Add the rule: {_rule(group, resource, missing)}")


async def _may(api: ClusterApi, namespace: str, group: str, resource: str, verb: str) -> bool:
    plural, _, part = resource.partition("/")
    asked = {"namespace": namespace, "group": group, "resource": plural, "verb": verb}
    if part:
        asked["subresource"] = part
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer.get("status", {}).get("allowed"))


def _rule(group: str, resource: str, verbs: tuple[str, ...]) -> str:
    """The rule as it is written into a Role."""
    return f'{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{", ".join(verbs)}]}}'


async def _keda(api: ClusterApi, namespace: str) -> TargetCheck:
    """Whether endpoints can scale to zero."""
    name = "KEDA (optional)"
    found = await _has_api(api, name, KEDA_API, NO_KEDA)
    return replace(await _right(api, namespace, *KEDA_RIGHT), name=name) if found.ok else found


async def _has_api(api: ClusterApi, name: str, path: str, otherwise: str) -> TargetCheck:
    try:
        await api.get(path)
    except NotFound:
        return TargetCheck(name, ok=False, message=otherwise)
    except SlipwayError as error:
        return TargetCheck(name, ok=False, message=error.message)
    return TargetCheck(name, ok=True)
