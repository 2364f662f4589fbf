"""Values and rules of data: datums, uploads, reserved properties, stores."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

BUILT_IN_STORE_ID: Final = UUID("00000000-0000-7000-8000-000000000001")
"""Public id of the installation's own object store, which has no row."""

MULTIPART_FROM: Final = 64 * 1024**2
"""Files of this size and more go up in parts; smaller ones in one PUT."""

_MIN_PART = 16 * 1024**2
_MAX_PARTS = 10_000
PART_URLS_AT_ONCE: Final = 16
URL_LIFETIME: Final = timedelta(minutes=15)
ABORT_GRACE: Final = timedelta(minutes=30)
"""How long an unfinished upload of an ended execution stays: a worker may still be on its way."""

ALIAS_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_TAGS: Final = 100
MAX_TAG_LENGTH: Final = 128


@dataclass(frozen=True)
class OutputOf:
    """The execution that made a datum."""

    id: UUID
    counter: int | None


@dataclass(frozen=True)
class Datum:
    """One immutable file with its checksums. `store_id` None is the installation's own store."""

    id: UUID
    project_id: UUID
    name: str
    size: int
    md5: str
    sha1: str
    sha256: str
    store_id: UUID | None
    key: str
    uri: str | None
    output_execution: OutputOf | None
    creator_id: int | None
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    properties: dict[str, Any]
    file_modified_at: datetime | None
    created_at: datetime
    purged_at: datetime | None
    deleted_at: datetime | None

    @property
    def filename(self) -> str:
        """The last part of the name: what a browser saves the file as."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Alias:
    """A movable name of a datum."""

    id: UUID
    project_id: UUID
    name: str
    datum: Datum | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Upload:
    """A file on its way into a store; `upload_id` is set when it goes up in parts."""

    id: UUID
    project_id: UUID
    execution_id: UUID | None
    attempt_id: UUID | None
    creator_id: int | None
    store_id: UUID | None
    key: str
    name: str
    size: int
    upload_id: str | None
    part_size: int | None


@dataclass(frozen=True)
class ConnectedStore:
    """An object store that users connected. Its credentials are not here."""

    id: UUID
    owner_id: int
    project_id: UUID | None
    name: str
    type: str
    access_mode: str
    allow_read: bool
    allow_write: bool
    allow_uri_download: bool
    configuration: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @property
    def uri_prefix(self) -> str:
        """Where its objects lie, as URIs name them."""
        return f"s3://{self.configuration['bucket']}/"


class Checksums(NamedTuple):
    """Hex digests of a file's bytes."""

    md5: str
    sha1: str
    sha256: str


@dataclass
class ReservedProperties:
    """What the reserved `valohai.*` keys of an output ask for (contract 3.11), and what could not be followed."""

    tags: list[str] = field(default_factory=list)
    alias: str | None = None
    warnings: list[str] = field(default_factory=list)


def part_size(size: int) -> int:
    """Bytes of each part of a file: 16 MiB, or more where that would make over 10,000 parts."""
    return max(_MIN_PART, -(-size // _MAX_PARTS))


def part_count(size: int, each: int) -> int:
    """How many parts a file has; the last may be short."""
    return max(1, -(-size // each))


def part_bytes(size: int, each: int, number: int) -> int:
    """Bytes of one part, counted from 1."""
    return min(each, size - (number - 1) * each)


def clean_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags without surrounding spaces, empty ones and doubles, in their order. Raises `ValueError`."""
    cleaned = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if len(cleaned) > MAX_TAGS:
        raise ValueError(f"At most {MAX_TAGS} tags, not {len(cleaned)}.")
    for tag in cleaned:
        if len(tag) > MAX_TAG_LENGTH or "," in tag or any(unicodedata.category(char) == "Cc" for char in tag):
            raise ValueError(f"The tag {tag!r:.150} has a comma, a control character or over {MAX_TAG_LENGTH} letters.")
    return cleaned


def read_reserved(name: str, properties: Mapping[str, Any]) -> ReservedProperties:
    """Read the reserved keys of one output. What is wrong becomes a warning: the file itself is kept."""
    found = ReservedProperties()
    tags = properties.get("valohai.tags")
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        try:
            found.tags = list(clean_tags(tags))
        except ValueError as error:
            found.warnings.append(f"{name}: {error}")
    elif tags is not None:
        found.warnings.append(f"{name}: valohai.tags must be a list of texts; the tags were not set.")
    alias = properties.get("valohai.alias")
    if isinstance(alias, str) and ALIAS_NAME.fullmatch(alias.removeprefix("datum://")):
        found.alias = alias.removeprefix("datum://")
    elif alias is not None:
        found.warnings.append(f"{name}: valohai.alias must be one name of letters, digits, '.', '_' and '-'.")
    for key, what in (("valohai.dataset-versions", "dataset"), ("valohai.model-versions", "model")):
        if properties.get(key):
            found.warnings.append(
                f"{name}: {key} is kept as a property, but no {what} version was made: "
                f"this installation has no {what}s yet."
            )
    return found
