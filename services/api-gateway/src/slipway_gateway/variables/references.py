"""Variables as what is handed to others: values in the clear, secrets by reference only."""

from collections.abc import Mapping, Sequence
from typing import Literal
from uuid import UUID

from slipway_gateway.projects.domain import Project
from slipway_gateway.variables.domain import Variable, VariableGroup
from slipway_gateway.variables.service import SECRET_SCOPE
from slipway_schemas.executions import EnvironmentVariable, SecretRef


def inherited_by(project: Project, groups: Sequence[VariableGroup]) -> dict[str, EnvironmentVariable]:
    """What everything in the project inherits: project > owner. `groups` are the owner's."""
    own = next((one for one in groups if one.name is None), None)
    owned = {} if own is None else of_group(own)
    return {**owned, **_referenced("project", project.id, project.environment_variables)}


def of_group(group: VariableGroup) -> dict[str, EnvironmentVariable]:
    """The variables of one group."""
    return _referenced(SECRET_SCOPE, group.id, group.variables)


def _referenced(
    scope: Literal["project", "group"], scope_id: UUID, variables: Mapping[str, Variable]
) -> dict[str, EnvironmentVariable]:
    found = {}
    for name, one in variables.items():
        if one.secret_version is None:
            found[name] = EnvironmentVariable(value=one.value)
        else:
            secret = SecretRef(scope=scope, scope_id=scope_id, name=name, version=one.secret_version)
            found[name] = EnvironmentVariable(secret=secret)
    return found
