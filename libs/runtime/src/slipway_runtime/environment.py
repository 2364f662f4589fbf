"""Variables of a run (contract 3.2)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from slipway_runtime.paths import ContainerPaths

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class RunIdentity:
    """Which run this is. Ids that do not apply are None."""

    execution_id: UUID
    project_id: UUID
    task_id: UUID | None = None
    pipeline_id: UUID | None = None
    pipeline_node_id: UUID | None = None
    local_ip: str | None = None
    public_ip: str | None = None


def container_environment(
    identity: RunIdentity, paths: ContainerPaths, user_variables: Mapping[str, str]
) -> dict[str, str]:
    """All variables of a run. What the platform sets wins, except `PYTHONUNBUFFERED`, which a user may set."""
    environment = {"PYTHONUNBUFFERED": "1", **user_variables}
    environment |= {
        "VH_CONFIG_DIR": str(paths.config),
        "VH_INPUTS_DIR": str(paths.inputs),
        "VH_OUTPUTS_DIR": str(paths.outputs),
        "VH_REPOSITORY_DIR": str(paths.repository),
        "VH_JOB_ID": f"exec-{identity.execution_id}",
        "VH_EXECUTION_ID": str(identity.execution_id),
        "VH_PROJECT_ID": str(identity.project_id),
    }
    optional = {
        "VH_TASK_ID": identity.task_id,
        "VH_PIPELINE_ID": identity.pipeline_id,
        "VH_PIPELINE_NODE_ID": identity.pipeline_node_id,
        "VH_LOCAL_IP": identity.local_ip,
        "VH_PUBLIC_IP": identity.public_ip or identity.local_ip,
    }
    environment |= {name: str(value) for name, value in optional.items() if value is not None}
    return environment


def shell_exports(environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The variables as lines that a POSIX shell reads, and the names that no shell can hold."""
    lines = []
    refused = []
    for name, value in environment.items():
        if _NAME.match(name) and "\0" not in value:
            quoted = value.replace("'", "'\\''")
            lines.append(f"export {name}='{quoted}'\n")
        else:
            refused.append(name)
    return "".join(lines), tuple(refused)
