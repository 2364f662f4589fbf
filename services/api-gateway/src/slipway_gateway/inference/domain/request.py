"""What clients may ask for (contract 4.3)."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from slipway_gateway.executions.domain.request import ListField, VariablesField, snake_keys
from slipway_schemas.inference.versions import Scale

MAX_REPLICAS = 1000
Replicas = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]


def _without_scheme(value: object) -> object:
    """Files come as an id or as `datum://<id>`; a form or a pipeline may leave them out."""
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        return value
    return {name: one.strip().removeprefix("datum://") if isinstance(one, str) else one for name, one in value.items()}


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _object(value: object) -> object:
    return {} if value is None else value


Text = Annotated[str | None, BeforeValidator(_blank_is_none)]


class DeploymentCreate(BaseModel):
    """A new deployment. Without `target` the commit's YAML says it, and else it is the installation's default."""

    model_config = ConfigDict(extra="ignore")

    project: UUID
    name: str = Field(min_length=1, max_length=255)
    target: Text = Field(default=None, max_length=255)
    commit: Text = Field(default=None, max_length=255, description="Whose YAML names the target; the newest commit.")
    public: bool = Field(default=False, description="Whether endpoints answer without a key.")


class DeploymentUpdate(BaseModel):
    """Changes of a deployment. What is not given stays. The name is part of URLs and cannot change."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    enabled: bool | None = None
    public: bool | None = None


class EndpointConfiguration(BaseModel):
    """How a version runs one of the endpoints of its commit."""

    model_config = ConfigDict(extra="ignore")

    enabled: bool = True
    files: Annotated[dict[str, UUID], BeforeValidator(_without_scheme)] = Field(default_factory=dict)
    replicas: Replicas = 1
    replicas_max: Replicas | None = None
    cpu_percent: int = Field(default=70, ge=1, le=100)

    @model_validator(mode="before")
    @classmethod
    def _accept_both_spellings(cls, data: object) -> object:
        fields = snake_keys(data) if isinstance(data, Mapping) else data
        if isinstance(fields, dict) and fields.get("replicas", 1) is None:
            fields.pop("replicas")
        return fields

    @property
    def scale(self) -> Scale:
        """How many replicas, as the builder takes it."""
        return Scale(replicas=self.replicas, replicas_max=self.replicas_max, cpu_percent=self.cpu_percent)


class VersionRequest(BaseModel):
    """A new version. An endpoint that `endpoint_configurations` does not name is no part of it."""

    model_config = ConfigDict(extra="ignore")

    deployment: UUID
    commit: str = Field(min_length=1, max_length=255)
    name: Text = Field(default=None, max_length=255, description="Without one it is the next of the day.")
    enabled: bool = True
    inherit_environment_variables: bool = True
    environment_variables: VariablesField = Field(default_factory=dict)
    endpoint_configurations: Annotated[dict[str, EndpointConfiguration], BeforeValidator(_object)] = Field(
        default_factory=dict
    )
    aliases: ListField = Field(default_factory=list)


class SwitchUpdate(BaseModel):
    """Whether a version runs."""

    model_config = ConfigDict(extra="ignore")

    enabled: bool | None = None


class EndpointUpdate(BaseModel):
    """Changes of an endpoint. What is not given stays."""

    model_config = ConfigDict(extra="ignore")

    enabled: bool | None = None
    replicas: Replicas | None = None
    replicas_max: Annotated[
        Replicas | None,
        Field(
            description="Above `replicas`: scale between the two, from 0 on where the target can; equal to it: do not."
        ),
    ] = None
    cpu_percent: int | None = Field(default=None, ge=1, le=100)
