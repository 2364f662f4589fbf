"""Values of a step's parameters: types, limits, what is required, what is left out (contract 2.1)."""

import math
from collections.abc import Mapping
from typing import Any

from valohai_yaml.excs import InvalidType, ValidationErrors
from valohai_yaml.objs import Parameter, Step

from slipway_gateway.executions.domain.problems import Problems

_FIELD = "parameters"
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", ""})


def resolve_parameters(step: Step, given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Typed values by name, defaults included, in the step's order.

    A null stands for "not given". It leaves an optional parameter out even where that has a default, and is the
    default of a required one. A flag that is not given stays absent whatever its default is.
    """
    for name in given.keys() - step.parameters.keys():
        known = ", ".join(step.parameters) or "none"
        problems.add(_FIELD, f"{name}: step {step.name!r} has no such parameter; it has: {known}.", "unknown")
    values: dict[str, Any] = {}
    for name, parameter in step.parameters.items():
        value = _value_of(parameter, given, problems)
        if value is not None or _left_out(parameter, given):
            values[name] = value
    return values


def _left_out(parameter: Parameter, given: Mapping[str, Any]) -> bool:
    """Whether a null asks to leave out a value that would otherwise come from the default."""
    return bool(parameter.name in given and parameter.optional and parameter.default is not None)


def _value_of(parameter: Parameter, given: Mapping[str, Any], problems: Problems) -> Any:
    if given.get(parameter.name) is not None:
        return _checked(parameter, given[parameter.name], problems)
    if parameter.type == "flag" or _left_out(parameter, given):
        return None
    if parameter.default is None:
        if not parameter.optional:
            problems.add(_FIELD, f"{parameter.name}: a value is required.", "required")
        return None
    return _checked(parameter, parameter.default, problems)


def _checked(parameter: Parameter, value: Any, problems: Problems) -> Any:
    try:
        typed = parameter.validate(_cast(parameter, value))
    except InvalidType as error:
        problems.add(_FIELD, f"{parameter.name}: {error}.")
        return None
    except ValidationErrors as error:
        for message in error:
            problems.add(_FIELD, f"{parameter.name}: {message}.")
        return None
    atoms: list[Any] = typed if isinstance(typed, list) else [typed]
    for atom in atoms:
        if isinstance(atom, dict) or (isinstance(atom, float) and not math.isfinite(atom)):
            problems.add(_FIELD, f"{parameter.name}: {atom} cannot be the value of a {parameter.type} parameter.")
            return None
    return typed


def _cast(parameter: Parameter, value: Any) -> Any:
    """Give a value the type in which the library compares it with the choices."""
    if isinstance(value, list | tuple):
        return [_cast(parameter, atom) for atom in value]
    if parameter.type == "flag" and not isinstance(value, bool):
        text = str(value).strip().lower()
        return True if text in _TRUE else False if text in _FALSE else value
    if parameter.type == "string" and isinstance(value, bool | int | float):
        return str(value)
    return value
