"""Environment variables of a run: payload > step > project (contract 3.2 and 6.4)."""

import re
from collections.abc import Mapping

from valohai_yaml.objs import Step

from slipway_gateway.executions.domain.problems import Problems
from slipway_schemas.executions import EnvironmentVariable

_FIELD = "environment_variables"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def resolve_variables(
    step: Step,
    given: Mapping[str, str | None],
    inherited: Mapping[str, EnvironmentVariable],
    problems: Problems,
) -> dict[str, EnvironmentVariable]:
    """The variables of the run. `inherited` are the project's, secrets among them by reference only."""
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
