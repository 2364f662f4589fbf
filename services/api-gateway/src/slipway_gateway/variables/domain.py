"""Values and rules of environment variables, of projects as of owners."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from slipway_kit.errors import Invalid

MAX_VALUE_BYTES = 64 * 1024
MAX_GROUP_NAME_LENGTH = 128

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")


@dataclass(frozen=True)
class Variable:
    """An environment variable of many runs. A secret has a version instead of a value."""

    name: str
    value: str | None
    secret_version: int | None

    @property
    def secret(self) -> bool:
        """True when the value is kept encrypted and never shown."""
        return self.secret_version is not None


@dataclass(frozen=True)
class VariableGroup:
    """Variables of an owner. A group without a name is inherited by all projects of the owner."""

    id: UUID
    owner_id: int
    name: str | None
    description: str
    updated_at: datetime
    variables: Mapping[str, Variable] = field(default_factory=dict)


def check_variable(name: str, value: str) -> None:
    """Raise `Invalid` on `name` or `value` for what cannot be an environment variable."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            "A variable name starts with a letter or '_', then has letters, digits, '_', '.', '-'; at most 256.",
            field="name",
        )
    if len(value.encode(errors="replace")) > MAX_VALUE_BYTES or "\0" in value:
        raise Invalid(f"A value has at most {MAX_VALUE_BYTES} bytes and no NUL.", field="value")


def checked_group_name(name: str) -> str:
    """The name without spaces around it. Raises `Invalid` on `name`."""
    name = name.strip()
    if not 1 <= len(name) <= MAX_GROUP_NAME_LENGTH:
        raise Invalid(f"The name of a group has 1 to {MAX_GROUP_NAME_LENGTH} characters.", field="name")
    if "/" in name or any(unicodedata.category(char).startswith("C") for char in name):
        raise Invalid("The name of a group has neither slashes nor control characters.", field="name")
    return name


def check_description(text: str) -> None:
    """Raise `Invalid` on `description` for what no row can hold."""
    if "\0" in text:
        raise Invalid("A description has no NUL.", field="description")
