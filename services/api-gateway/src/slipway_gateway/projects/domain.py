"""Values and rules of projects."""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from uuid import UUID

from slipway_gateway.variables.domain import Variable

MAX_NAME_LENGTH = 128
MAX_SLUG_LENGTH = 64
DEFAULT_YAML_PATH = "valohai.yaml"


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
    environment_variables: dict[str, Variable] = field(default_factory=dict)

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


def yaml_path_problem(path: str) -> str | None:
    """What is wrong with the path of the YAML file within a repository, or None."""
    parts = PurePosixPath(path).parts
    if not path or len(path) > 1024 or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        return "The path of the YAML file is relative to the repository's root, without '..'."
    return None
