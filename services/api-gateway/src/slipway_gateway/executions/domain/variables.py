"""Environment variables of a run: payload > step > groups > project > owner (contract 3.2 and 6.4)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from valohai_yaml.objs import Step

from slipway_gateway.executions.domain.problems import Problems
from slipway_schemas.executions import EnvironmentVariable

_FIELD = "environment_variables"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class GroupChoice:
    """A group that runs of the project may name, secrets in it by reference only."""

    id: UUID
    name: str
    variables: Mapping[str, EnvironmentVariable]


def group_variables(
    wanted: Sequence[str], groups: Sequence[GroupChoice], problems: Problems
) -> dict[str, EnvironmentVariable]:
    """The variables of the groups named by id or name; of two groups with one variable the later named wins."""
    chosen: dict[UUID, GroupChoice] = {}
    for reference in wanted:
        found = next((one for one in groups if reference.strip().lower() in (str(one.id), one.name.lower())), None)
        if found is None:
            known = ", ".join(one.name for one in groups) or "none"
            problems.add(
                "environment_variable_groups",
                f"The owner of the project has no environment variable group {reference!r:.100}; there are: {known}.",
                "does_not_exist",
            )
        else:
            chosen.setdefault(found.id, found)
    return {name: one for group in chosen.values() for name, one in group.variables.items()}


def resolve_variables(
    step: Step,
    given: Mapping[str, str | None],
    inherited: Mapping[str, EnvironmentVariable],
    problems: Problems,
) -> dict[str, EnvironmentVariable]:
    """The variables of the run. `inherited` come from groups, project and owner, secrets by reference only."""
    variables = dict(inherited)
    for name, declared in step.environment_variables.items():
        if declared.default is not None:
            variables[name] = EnvironmentVariable(value=str(declared.default))
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            problems.add(
                _FIELD, f"{name!r:.100} cannot be a variable: use letters, digits and _, not beginning with a digit."
            )
        elif value is not None and "\0" in value:
            problems.add(_FIELD, f"{name}: a value cannot have NUL characters.")
        elif value is not None:
            variables[name] = EnvironmentVariable(value=value)
    for name, declared in step.environment_variables.items():
        if not declared.optional and name not in variables:
            problems.add(
                _FIELD,
                f"{name}: step {step.name!r} requires a value. Give it with the execution, or set it in the project.",
                "required",
            )
    return variables
