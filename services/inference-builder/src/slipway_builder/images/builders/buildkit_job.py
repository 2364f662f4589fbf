"""The objects of a build in the cluster: a job, and a secret with what it works on."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from slipway_builder.images.protocol import RegistryAccess
from slipway_builder.images.registry.references import DOCKER_HUB, canonical_host
from slipway_builder.targets.kubernetes.names import COMPONENT, JOB, MANAGED_BY, SECRET
from slipway_builder.targets.kubernetes.settings import BuildSettings

CONTAINER: Final = "buildkit"
IMAGE_ID: Final = "slipway/image-id"
"""Label of a build's objects."""

_COMPONENT_NAME: Final = "slipway-image-build"
_USER: Final = 1000
_INPUT: Final = "/slipway"
_STATE: Final = "/home/user/.local/share/buildkit"
_LOGIN_KEY: Final = ".dockerconfigjson"
_HUB_LOGIN: Final = "https://index.docker.io/v1/"
_STAYS: Final = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
_KEPT_SECONDS: Final = 300
"""Of a job that ended and whose builder is gone."""
_SCRIPT: Final = f"""set -e
context=$(mktemp -d)
cp {_INPUT}/Dockerfile "$context"
buildctl-daemonless.sh build --progress=plain --frontend=dockerfile.v0 \\
    --local=context="$context" --local=dockerfile="$context" \\
    --output="$SLIPWAY_OUTPUT" --metadata-file="$context.json"
cat "$context.json" >/dev/termination-log
"""


def build_job(name: str, image_id: UUID, output: str, builds: BuildSettings) -> dict[str, Any]:
    """A job that builds once, and pushes to the repository `output` without a tag.

    Its pod's termination message is BuildKit's metadata: the log is no place for it, since code of users writes there.
    """
    exporter = "push=true,push-by-digest=true,oci-mediatypes=true,compression=uncompressed"
    variables = {
        "BUILDCTL_CONNECT_RETRIES_MAX": "100",
        "BUILDKITD_FLAGS": f"--config={_INPUT}/buildkitd.toml --oci-worker-no-process-sandbox",
        "BUILDKIT_STEP_LOG_MAX_SIZE": "-1",
        "BUILDKIT_STEP_LOG_MAX_SPEED": "-1",
        "DOCKER_CONFIG": _INPUT,
        "SLIPWAY_OUTPUT": f"type=image,name={output},{exporter}",
    }
    container = {
        "name": CONTAINER,
        "image": builds.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", _SCRIPT.replace("$(", "$$(")],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": _resources(builds),
        "securityContext": {
            "privileged": False,
            # newuidmap, which gives BuildKit's user namespace its users, is a program with the set-user-id bit.
            "allowPrivilegeEscalation": True,
            "capabilities": {"drop": ["ALL"], "add": ["SETUID", "SETGID"]},
        },
        "volumeMounts": [
            {"name": "input", "mountPath": _INPUT, "readOnly": True},
            {"name": "state", "mountPath": _STATE},
        ],
    }
    login = [{"key": _LOGIN_KEY, "path": "config.json"}]
    files = [{"key": key, "path": key} for key in ("Dockerfile", "buildkitd.toml", "ca.crt")]
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            # The runtime's profiles forbid the mounts that BuildKit makes in its user namespace.
            "seccompProfile": {"type": "Unconfined"},
            "appArmorProfile": {"type": "Unconfined"},
        },
        "nodeSelector": builds.node_selector,
        "tolerations": [one.model_dump(exclude_none=True) for one in builds.tolerations],
        "imagePullSecrets": [{"name": name}],
        "containers": [container],
        "volumes": [
            {"name": "input", "secret": {"secretName": name, "items": [*login, *files], "defaultMode": 0o440}},
            {"name": "state", "emptyDir": {"sizeLimit": str(builds.disk_bytes)} if builds.disk_bytes else {}},
        ],
    }
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {"name": name, "labels": _labels(image_id)},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": builds.start_seconds + builds.run_seconds,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": _labels(image_id), "annotations": _STAYS}, "spec": pod},
        },
    }


def build_secret(
    job: Mapping[str, Any], image_id: UUID, dockerfile: str, registry: RegistryAccess, authority: str
) -> dict[str, Any]:
    """What the job reads; it goes with the job. `authority`: certificates that the registry's is signed by, or none."""
    name = str(job["metadata"]["name"])
    values = {
        _LOGIN_KEY: _login(registry),
        "Dockerfile": dockerfile,
        "buildkitd.toml": _configuration(registry, authority),
        "ca.crt": authority,
    }
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {
            "name": name,
            "labels": _labels(image_id),
            "ownerReferences": [
                {"apiVersion": JOB.api_version, "kind": JOB.kind, "name": name, "uid": job["metadata"]["uid"]}
            ],
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def _labels(image_id: UUID) -> dict[str, str]:
    return {MANAGED_BY: "slipway", COMPONENT: _COMPONENT_NAME, IMAGE_ID: str(image_id)}


def _resources(builds: BuildSettings) -> dict[str, Any]:
    requests = {"cpu": f"{round(builds.cpu_request * 1000)}m", "memory": str(builds.memory_request_bytes)}
    limits = {}
    if builds.memory_limit_bytes is not None:
        limits["memory"] = str(builds.memory_limit_bytes)
        requests["memory"] = str(min(builds.memory_request_bytes, builds.memory_limit_bytes))
    return {"requests": requests, "limits": limits}


def _login(registry: RegistryAccess) -> str:
    if registry.username is None:
        return json.dumps({"auths": {}})
    proof = base64.b64encode(f"{registry.username}:{registry.password or ''}".encode()).decode()
    host = _HUB_LOGIN if canonical_host(registry.host) == DOCKER_HUB else registry.host
    return json.dumps({"auths": {host: {"auth": proof}}})


def _configuration(registry: RegistryAccess, authority: str) -> str:
    # Not said, BuildKit would take a registry on the loopback for a plain one.
    lines = [f'[registry."{registry.host}"]', f"http = {str(registry.plain_http).lower()}"]
    if authority:
        lines.append(f'ca = ["{_INPUT}/ca.crt"]')
    return "\n".join(lines) + "\n"
