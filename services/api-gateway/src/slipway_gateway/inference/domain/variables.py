"""Environment variables of a version: version > project > owner; the platform's own win at the end (contract 4.3)."""

from collections.abc import Mapping

from slipway_gateway.executions.domain.problems import Problems
from slipway_gateway.variables.domain import check_variable
from slipway_kit.errors import Invalid
from slipway_schemas.executions import EnvironmentVariable

_FIELD = "environment_variables"


def version_variables(
    given: Mapping[str, str | None], inherited: Mapping[str, EnvironmentVariable], problems: Problems
) -> tuple[dict[str, EnvironmentVariable], dict[str, str]]:
    """All variables of the pods, and those that the request itself named."""
    own = {name: value for name, value in given.items() if value is not None}
    for name, value in own.items():
        try:
            check_variable(name, value)
        except Invalid as error:
            problems.add(_FIELD, f"{name!r:.100}: {error.message}")
    return {**inherited, **{name: EnvironmentVariable(value=value) for name, value in own.items()}}, own
