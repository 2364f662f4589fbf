"""Everything of a run that follows from the request and the step alone: payload > step (contract 1.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from valohai_yaml.commands import join_command
from valohai_yaml.objs import Config, Step
from valohai_yaml.utils import listify

from slipway_gateway.executions.domain import limits
from slipway_gateway.executions.domain.inputs import WantedInput, resolve_inputs
from slipway_gateway.executions.domain.parameters import resolve_parameters
from slipway_gateway.executions.domain.problems import Problems
from slipway_gateway.executions.domain.request import RunRequest
from slipway_gateway.executions.domain.variables import GroupChoice, group_variables, resolve_variables
from slipway_schemas.executions import EnvironmentVariable, MountSpec, Resources


@dataclass(frozen=True)
class ResolvedStep:
    """A step with the request's values in it. What needs the database or a store is still as written."""

    step: str
    image: str
    command: tuple[str, ...]
    interpolated_command: str
    parameters: dict[str, Any]
    parameter_categories: dict[str, str]
    inputs: tuple[WantedInput, ...]
    environment_variables: dict[str, EnvironmentVariable]
    mounts: tuple[MountSpec, ...]
    cache_volumes: tuple[str, ...]
    resources: Resources
    time_limit_seconds: int | None
    no_output_timeout_seconds: int | None
    stop_condition: str | None
    autorestart: bool
    upload_store: str | None
    debug_port: int | None
    debug_key: str | None
    icon: str | None
    category: str | None
    runtime_config: dict[str, Any]


def find_step(config: Config, name: str, problems: Problems) -> Step | None:
    """The step of this exact name; None with a problem noted."""
    step: Step | None = config.steps.get(name)
    if step is None:
        known = ", ".join(config.steps) or "none"
        problems.add("step", f"The commit has no step {name!r:.100}; it has: {known}.", "does_not_exist")
    return step


def resolve_step(
    request: RunRequest,
    step: Step,
    inherited: Mapping[str, EnvironmentVariable],
    groups: Sequence[GroupChoice],
    problems: Problems,
) -> ResolvedStep:
    """Merge and check. Problems are noted, not raised: the result counts only when there are none.

    `inherited` are the variables of project and owner, `groups` those that the run may name.
    """
    values = resolve_parameters(step, request.parameters, problems)
    parameters = {name: value for name, value in values.items() if value is not None}
    command = tuple(request.command or [str(line) for line in listify(step.command)])
    port, key = limits.remote_debug(request.runtime_config, problems)
    named = [*map(str, step.environment_variable_groups), *request.environment_variable_groups]
    grouped = group_variables(named, groups, problems)
    if request.runtime_config_preset:
        problems.add(
            "runtime_config_preset",
            f"There is no preset {request.runtime_config_preset!r:.100} in this environment.",
            "does_not_exist",
        )
    return ResolvedStep(
        step=step.name,
        image=_image(request, step, problems),
        command=command,
        interpolated_command=_interpolated(step, values, command, problems),
        parameters=parameters,
        parameter_categories={name: p.category for name, p in step.parameters.items() if p.category},
        inputs=tuple(resolve_inputs(step, request.inputs, parameters, problems)),
        environment_variables=resolve_variables(
            step,
            request.environment_variables,
            {**(inherited if request.inherit_environment_variables else {}), **grouped},
            problems,
        ),
        mounts=tuple(
            MountSpec(source=str(m.source), destination=str(m.destination), readonly=m.readonly) for m in step.mounts
        ),
        cache_volumes=limits.cache_volumes(step, request.runtime_config, problems),
        resources=limits.resources(step, request.runtime_config, problems),
        time_limit_seconds=limits.seconds("time_limit", request.time_limit, step.time_limit, problems),
        no_output_timeout_seconds=limits.seconds(
            "no_output_timeout", request.no_output_timeout, step.no_output_timeout, problems
        ),
        stop_condition=limits.stop_condition(request.stop_condition, step, problems),
        autorestart=bool(step.autorestart) if request.autorestart is None else request.autorestart,
        upload_store=step.upload_store,
        debug_port=port,
        debug_key=key,
        icon=step.icon,
        category=step.category,
        runtime_config=request.runtime_config,
    )


def _image(request: RunRequest, step: Step, problems: Problems) -> str:
    image = str(request.image or step.image or "").strip()
    if not image or any(char.isspace() for char in image):
        problems.add("image", f"{image!r:.100} is no image. Use a name such as python:3.12-slim.")
    return image


def _interpolated(step: Step, values: Mapping[str, Any], command: tuple[str, ...], problems: Problems) -> str:
    try:
        return str(join_command(step.build_command(dict(values), list(command)), "\n"))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        problems.add(
            "parameters",
            f"The command of step {step.name!r} cannot be built: {error!r:.200}. Check pass-as of its parameters.",
        )
        return ""
