"""Which URIs each declared input of a step reads from (contract 2.2 'input' and 3.12)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from valohai_yaml.objs import Step
from valohai_yaml.utils import listify

from slipway_gateway.executions.domain.problems import Problems
from slipway_schemas.executions import KeepDirectories

_FIELD = "inputs"
_PLACEHOLDER = re.compile(r"\{parameter(?:-value)?:([^}]+)\}")


@dataclass(frozen=True)
class WantedInput:
    """An input with its URIs as written (`original_urls`) and with parameter values put in (`urls`)."""

    name: str
    urls: tuple[str, ...]
    original_urls: tuple[str, ...]
    keep_directories: KeepDirectories
    filename: str | None
    download: Literal["always", "on-demand"]


def resolve_inputs(
    step: Step, given: Mapping[str, list[str]], parameters: Mapping[str, Any], problems: Problems
) -> list[WantedInput]:
    """Every declared input, those without a URI too: user code finds an empty directory for them.

    An empty list leaves an optional input empty; a required one then reads its default.
    """
    for name in given.keys() - step.inputs.keys():
        known = ", ".join(step.inputs) or "none"
        problems.add(_FIELD, f"{name}: step {step.name!r} has no such input; it has: {known}.", "unknown")
    wanted = []
    for name, declared in step.inputs.items():
        default = [str(uri) for uri in listify(declared.default)]
        originals = given.get(name, default) if declared.optional else given.get(name) or default
        originals = [uri.strip() for uri in originals if uri.strip()]
        if not originals and not declared.optional:
            problems.add(_FIELD, f"{name}: at least one URI is required.", "required")
        wanted.append(
            WantedInput(
                name=name,
                urls=tuple(_put_in(name, uri, parameters, problems) for uri in originals),
                original_urls=tuple(originals),
                keep_directories=KeepDirectories(declared.keep_directories.value),
                filename=str(declared.filename) if declared.filename else None,
                download=declared.download.value,
            )
        )
    return wanted


def _put_in(name: str, uri: str, parameters: Mapping[str, Any], problems: Problems) -> str:
    def value_of(match: re.Match[str]) -> str:
        value = parameters.get(match[1])
        if value is None:
            problems.add(_FIELD, f"{name}: {uri} names the parameter {match[1]!r}, which has no value.")
            return match[0]
        return ",".join(str(atom) for atom in listify(value))

    return _PLACEHOLDER.sub(value_of, uri)
