"""What a client may ask for when it creates an execution (contract 1.3)."""

import json
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _from_text(value: object) -> object:
    """Form bodies carry objects and lists as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"not valid JSON: {error}") from error
    return value


def _object(value: object) -> object:
    value = _from_text(value)
    return {} if value is None or value == "" else value


def _list(value: object) -> object:
    value = _from_text(value)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else value


def _inputs(value: object) -> object:
    value = _object(value)
    if not isinstance(value, Mapping):
        return value
    return {name: _list(uris) for name, uris in value.items()}


def _variables(value: object) -> object:
    value = _object(value)
    if not isinstance(value, Mapping):
        return value
    return {name: _variable(one) for name, one in value.items()}


def _variable(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _commands(value: object) -> object:
    return [value] if isinstance(value, str) else value


def snake_keys(value: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with `-` in its keys turned into `_`; YAML users write one, API users the other."""
    return {str(key).replace("-", "_"): one for key, one in value.items()}


ObjectField = Annotated[dict[str, Any], BeforeValidator(_object)]
ListField = Annotated[list[str], BeforeValidator(_list)]
VariablesField = Annotated[dict[str, str | None], BeforeValidator(_variables)]


class RunRequest(BaseModel):
    """An execution as asked for. Everything that is left out comes from the step, the environment or the project."""

    model_config = ConfigDict(extra="ignore")

    project: UUID
    commit: str = Field(min_length=1, max_length=255)
    step: str = Field(min_length=1, max_length=255)
    inputs: Annotated[dict[str, list[str]], BeforeValidator(_inputs)] = Field(default_factory=dict)
    parameters: ObjectField = Field(default_factory=dict)
    environment: str | None = None
    image: str | None = None
    title: str | None = Field(default=None, max_length=255)
    command: Annotated[list[str] | None, BeforeValidator(_commands)] = None
    environment_variables: VariablesField = Field(default_factory=dict)
    environment_variable_groups: ListField = Field(default_factory=list)
    inherit_environment_variables: bool = True
    tags: ListField = Field(default_factory=list)
    runtime_config: ObjectField = Field(default_factory=dict)
    runtime_config_preset: str | None = None
    priority: int = Field(default=0, ge=-1000, le=1000)
    time_limit: int | str | None = None
    no_output_timeout: int | str | None = None
    stop_condition: str | None = Field(default=None, max_length=1024)
    autorestart: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_both_spellings(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        fields = snake_keys(data)
        # Notebook clients and older API users put these into runtime_config (contract 1.3).
        config = _from_text(fields.get("runtime_config"))
        if isinstance(config, Mapping):
            fields["runtime_config"] = config = snake_keys(config)
            for key in ("command", "inherit_environment_variables", "no_output_timeout", "autorestart"):
                if fields.get(key) is None and config.get(key) is not None:
                    fields[key] = config[key]
        for key in ("environment", "image", "title", "runtime_config_preset", "time_limit", "stop_condition"):
            if fields.get(key) == "":
                fields[key] = None
        for key in ("priority", "inherit_environment_variables"):
            if fields.get(key) in (None, ""):
                fields.pop(key, None)
        return fields
