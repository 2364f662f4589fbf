"""Values and rules of projects."""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from uuid import UUID

MAX_NAME_LENGTH = 128
MAX_SLUG_LENGTH = 64
MAX_VALUE_BYTES = 64 * 1024
DEFAULT_YAML_PATH = "valohai.yaml"

_VARIABLE_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,255}$")


@dataclass(frozen=True)
class ProjectVariable:
    """A variable of all runs of a project. A secret has a version instead of a value."""

    name: str
    value: str | None
    secret_version: int | None

    @property
    def secret(self) -> bool:
        """True when the value is kept encrypted and never shown."""
        return self.secret_version is not None


@dataclass(frozen=True)
class Project:
    """A project that the caller may see. `environment_variables` is filled where one project is read."""

    id: UUID
    name: str
    slug: str
    owner_id: int
    owner_slug: str
    description: str
    yaml_path: str
    default_environment_id: UUID | None
    default_store_id: UUID | None
    upload_store_id: UUID | None
    created_at: datetime
    updated_at: datetime
    environment_variables: dict[str, ProjectVariable] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """`owner/name`, as user code reads it."""
        return f"{self.owner_slug}/{self.name}"


@dataclass(frozen=True)
class ExecutionCounts:
    """Executions of a project by status, and when the newest was made."""

    by_status: dict[str, int]
    newest_at: datetime | None

    @property
    def total(self) -> int:
        """All that are not deleted."""
        return sum(self.by_status.values())


def slug_of(name: str) -> str:
    """A name for URLs: lower case, accents dropped, anything else that has no place in one a dash."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")[:MAX_SLUG_LENGTH].rstrip("-._")
    return slug or "project"


def numbered_slug(slug: str, number: int) -> str:
    """`slug` with a number, for the second project whose name gives the same slug."""
    ending = f"-{number}"
    return slug[: MAX_SLUG_LENGTH - len(ending)] + ending


def name_problem(name: str) -> str | None:
    """What is wrong with a project name, or None."""
    if not name:
        return "A project needs a name."
    if len(name) > MAX_NAME_LENGTH:
        return f"A project name has at most {MAX_NAME_LENGTH} characters, this one has {len(name)}."
    if "/" in name or any(unicodedata.category(char).startswith("C") for char in name):
        return "A project name has neither slashes nor control characters."
    return None


def variable_name_problem(name: str) -> str | None:
    """What is wrong with the name of an environment variable, or None."""
    if _VARIABLE_NAME.fullmatch(name):
        return None
    return "A variable name starts with a letter or '_', then has letters, digits, '_', '.', '-'; at most 256."


def yaml_path_problem(path: str) -> str | None:
    """What is wrong with the path of the YAML file within a repository, or None."""
    parts = PurePosixPath(path).parts
    if not path or len(path) > 1024 or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        return "The path of the YAML file is relative to the repository's root, without '..'."
    return None
