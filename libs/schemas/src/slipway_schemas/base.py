"""Base classes of all wire models and the two rules that they carry."""

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

WIRE_VERSION = 1
"""The `v` that workers and services speak. Within one `v` fields are only added (design: versions on the wire)."""


class WireModel(BaseModel):
    """A frozen model sent between services. Readers ignore unknown fields, so that a newer sender is understood."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StrictModel(BaseModel):
    """A frozen model in which an unknown field is a mistake of the caller."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Json = JsonValue
JsonObject = dict[str, Any]
"""A JSON object that Slipway stores and hands on without reading it."""
