"""From an attempt's document to what the runtime is asked for."""

import os
from collections.abc import Mapping
from pathlib import PurePosixPath

from slipway_runtime.environment import RunIdentity, container_environment
from slipway_runtime.layout import AttemptLayout, RunLimits
from slipway_runtime.paths import CONTAINER_ROOT, ContainerPaths
from slipway_runtime.runtimes.protocol import AttemptPlan, ResourceLimits, UserMount
from slipway_schemas.attempts import AttemptDocument
from slipway_worker.attempts.controls import Controls
from slipway_worker.attempts.mounts import user_mounts
from slipway_worker.machine.capacity import default_memory
from slipway_worker.settings import WorkerSettings

_CA_FILE = PurePosixPath("/run/slipway-ca.pem")
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


def plain_variables(document: AttemptDocument) -> dict[str, str]:
    """Variables whose value is no secret."""
    return {
        name: variable.value
        for name, variable in document.spec.environment_variables.items()
        if variable.value is not None
    }


def make_plan(
    layout: AttemptLayout,
    document: AttemptDocument,
    paths: ContainerPaths,
    settings: WorkerSettings,
    *,
    secrets: Mapping[str, str],
    gpus: tuple[int, ...],
    addresses: tuple[str, ...],
) -> tuple[AttemptPlan, tuple[str, ...]]:
    """The plan, and status lines about what was asked for and is not given."""
    spec, rules, container = document.spec, document.environment, settings.container
    variables = plain_variables(document)
    controls = Controls.read(variables)
    notices = []
    mounts: list[UserMount] = []
    if spec.mounts and rules.allow_mounts:
        mounts, refused = user_mounts(spec.mounts, settings)
        notices += refused
    elif spec.mounts:
        notices.append("The step's mounts are left out: the environment does not allow mounts.")
    network = container.network
    if controls.host_network and rules.allow_mounts:
        network = "host"
    elif controls.host_network:
        notices.append("VH_DOCKER_NETWORK=host is left out: the environment does not allow mounts.")
    passed = {name: os.environ[name] for name in container.pass_environment if name in os.environ}
    if container.ca_file is not None and paths.root == CONTAINER_ROOT:
        mounts.append(UserMount(str(container.ca_file), str(_CA_FILE), readonly=True))
        passed |= dict.fromkeys(_CA_VARIABLES, str(_CA_FILE))
    identity = RunIdentity(
        execution_id=document.execution_id,
        project_id=document.project_id,
        local_ip=addresses[0] if addresses else None,
    )
    resources = spec.resources
    plan = AttemptPlan(
        attempt_id=str(document.attempt_id),
        execution_id=str(document.execution_id),
        layout=layout,
        image=spec.image,
        command=spec.interpolated_command,
        environment=container_environment(identity, paths, {**passed, **variables, **secrets}),
        resources=ResourceLimits(
            cpus=controls.cpus or resources.cpus_max or None,
            cpu_set=controls.cpu_set,
            memory_bytes=resources.memory_max_bytes or default_memory(settings),
            pids=container.pids,
            gpus=tuple(str(index) for index in gpus),
        ),
        limits=RunLimits(
            time_limit=spec.time_limit_seconds or rules.default_time_limit_seconds or None,
            no_output_timeout=spec.no_output_timeout_seconds or rules.default_no_output_timeout_seconds or None,
            int_grace=rules.stop_int_grace_seconds,
            term_grace=rules.stop_term_grace_seconds,
        ),
        network=network,
        mounts=tuple(mounts),
    )
    return plan, tuple(notices)
