"""Steps of a commit's YAML as pages show them."""

from dataclasses import dataclass
from typing import Any

from valohai_yaml.objs import Config, Input, Parameter, Step
from valohai_yaml.utils import listify


@dataclass(frozen=True)
class ParameterView:
    """A parameter: its default as text, one value per line where it takes several."""

    name: str
    type: str
    required: bool
    multiple: bool
    default_text: str
    default_true: bool
    choices: tuple[str, ...]
    description: str

    def value_of(self, text: str) -> str | list[str] | None:
        """What a form's text means; nothing means that no value is given."""
        if self.multiple:
            return [line.strip() for line in text.splitlines() if line.strip()] or None
        return text or None


@dataclass(frozen=True)
class InputView:
    """An input and where it reads from unless told otherwise."""

    name: str
    urls: tuple[str, ...]
    required: bool
    description: str


@dataclass(frozen=True)
class StepView:
    """A step."""

    name: str
    image: str
    command: str
    environment: str
    description: str
    parameters: tuple[ParameterView, ...]
    inputs: tuple[InputView, ...]


def steps_of(config: Config) -> list[StepView]:
    """The steps in the order of the file."""
    return [_step(step) for step in config.steps.values()]


def _step(step: Step) -> StepView:
    return StepView(
        name=step.name,
        image=str(step.image or ""),
        command="\n".join(str(line) for line in listify(step.command)),
        environment=step.environment or "",
        description=str(step.description or ""),
        parameters=tuple(_parameter(one) for one in step.parameters.values()),
        inputs=tuple(_input(one) for one in step.inputs.values()),
    )


def _parameter(parameter: Parameter) -> ParameterView:
    default: Any = parameter.default
    return ParameterView(
        name=parameter.name,
        type=parameter.type,
        required=not parameter.optional and default is None,
        multiple=parameter.multiple is not None,
        default_text="" if default is None else "\n".join(str(one) for one in listify(default)),
        default_true=parameter.type == "flag" and default is True,
        choices=() if parameter.type == "flag" else tuple(str(one) for one in parameter.choices or ()),
        description=str(parameter.description or ""),
    )


def _input(found: Input) -> InputView:
    urls = tuple(str(url) for url in listify(found.default))
    return InputView(found.name, urls, not found.optional and not urls, str(found.description or ""))
