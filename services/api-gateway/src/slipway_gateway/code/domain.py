"""Values and rules of code: repositories, refs, commits, archives."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from slipway_schemas.executions import CodeRef

ArchiveFormat = Literal["tar.zst", "tar.gz"]

COMMITS_PER_REF = 9000
"""Newest commits of a branch that get a row: as many as clients ask for."""
MIN_PREFIX = 7
"""Fewest digits by which a commit may be named."""

_SHA = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")
_ADHOC = re.compile(r"^~[0-9a-f]{64}$")


class RefKind(StrEnum):
    """What a ref is."""

    BRANCH = "branch"
    TAG = "tag"


@dataclass(frozen=True)
class Repository:
    """The git repository of a project, without its secrets."""

    id: int
    project_id: UUID
    url: str
    ref: str
    """Default branch; "" = the one that the remote's HEAD names."""
    username: str
    token_version: int | None
    deploy_key_version: int | None
    deploy_public_key: str | None
    fetched_at: datetime | None


@dataclass(frozen=True)
class Ref:
    """A branch or tag and the commit it stands at."""

    kind: RefKind
    name: str
    head: str


@dataclass(frozen=True)
class ConfigError:
    """Why a commit's YAML cannot be used."""

    message: str
    line: int | None = None
    hint: str = ""

    @property
    def text(self) -> str:
        """One text with line and hint."""
        place = f" (line {self.line})" if self.line is not None else ""
        return f"{self.message}{place}" + (f" Hint: {self.hint}" if self.hint else "")

    def as_json(self) -> dict[str, Any]:
        """For the commit's row."""
        return {"message": self.message, "line": self.line, "hint": self.hint}


@dataclass(frozen=True)
class Commit:
    """An immutable snapshot of code.

    `config` is the parsed YAML as a JSON list; None while it has not been read and when there is a `config_error`.
    `archive_key` is None while the snapshot is not in the object store.
    """

    id: UUID
    project_id: UUID
    identifier: str
    repository_id: int | None
    ref: str
    ref_names: tuple[str, ...]
    adhoc: bool
    description: str
    commit_time: datetime
    created_at: datetime
    yaml_path: str
    config: list[Any] | None
    config_error: ConfigError | None
    archive_sha256: str | None
    archive_key: str | None
    archive_format: ArchiveFormat
    archive_stored_sha256: str | None
    archive_size: int | None
    archive_error: str | None
    has_config: bool
    """True when the YAML has been read and is good, also where a list leaves `config` out."""

    @property
    def code_ref(self) -> CodeRef:
        """The snapshot as others name it."""
        return CodeRef(
            identifier=self.identifier,
            adhoc=self.adhoc,
            archive_key=self.archive_key,
            archive_sha256=self.archive_stored_sha256,
            archive_format=self.archive_format,
        )


@dataclass(frozen=True)
class CommitLine:
    """A commit as git's log tells it."""

    sha: str
    commit_time: datetime
    description: str


@dataclass(frozen=True)
class FetchResult:
    """What a fetch brought: heads that are new or have moved, and problems in words."""

    commits: tuple[tuple[str, str], ...]
    """(ref, identifier) pairs."""
    errors: tuple[str, ...]


def is_git_sha(text: str) -> bool:
    """Whether `text` is a full git object name."""
    return _SHA.fullmatch(text) is not None


def is_adhoc_identifier(text: str) -> bool:
    """Whether `text` names an ad-hoc package: `~` and the SHA-256 of the package."""
    return _ADHOC.fullmatch(text) is not None


def prefix_of(text: str) -> str | None:
    """`text` as the beginning of an identifier, or None when it cannot be one."""
    bare = text.lower()
    return bare if re.fullmatch(rf"~?[0-9a-f]{{{MIN_PREFIX},63}}", bare) else None
