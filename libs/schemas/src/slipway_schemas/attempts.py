"""The attempt document handed to a worker, and the materials it asks the gateway for."""

import unicodedata
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from slipway_schemas.base import WIRE_VERSION, JsonObject, StrictModel, WireModel
from slipway_schemas.environments import EnvironmentSettings
from slipway_schemas.executions import ExecutionSpec
from slipway_schemas.storable import MadeStorable, Storable


class AttemptDocument(WireModel):
    """Everything about an attempt that is not secret. Secrets and signed URLs come with the materials."""

    v: int = WIRE_VERSION
    attempt_id: UUID
    number: int
    execution_id: UUID
    counter: int
    created_at: datetime
    queued_at: datetime | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    project_id: UUID
    project_name: str
    creator_id: int
    creator_name: str
    creator_email: str = ""
    environment_id: UUID
    environment_name: str
    environment_slug: str
    environment: EnvironmentSettings
    spec: ExecutionSpec


class CodeArchive(WireModel):
    """The commit's files as an archive behind a signed URL. `sha256` is of the archive as stored."""

    url: str
    sha256: str
    size: int
    format: Literal["tar.zst", "tar.gz"]


class ResolvedFile(WireModel):
    """One file of an input. `name` is relative to the input's directory (contract 3.5)."""

    name: str
    uri: str
    url: str
    datum_id: UUID | None = None
    storage_uri: str | None = None
    size: int | None = None
    md5: str | None = None
    sha1: str | None = None
    sha256: str | None = None
    metadata: tuple[JsonObject, ...] = ()
    cache_key: str
    """Names these bytes in the worker's cache: `datum:<id>`, or the URI with its version."""
    public: bool = False
    """True for a user's own http(s) address: the egress rules of the environment apply."""


class ResolvedInput(WireModel):
    """An input with the files its URIs stand for."""

    name: str
    input_id: UUID
    download: Literal["always", "on-demand"]
    files: tuple[ResolvedFile, ...] = ()


class RegistryLogin(WireModel):
    """Credentials for pulling the image."""

    registry: str
    username: str
    password: str = Field(repr=False)


class MaterialsRequest(StrictModel):
    """Ask for what an attempt needs. URLs in the answer live 15 minutes and are asked for again."""

    v: int = WIRE_VERSION
    want: tuple[Literal["code", "inputs", "secrets", "registry", "api"], ...] = (
        "code",
        "inputs",
        "secrets",
        "registry",
        "api",
    )


class SecretValue(WireModel):
    """The value of one secret variable. Never logged; redacted from every line that leaves the worker."""

    name: str
    value: str = Field(repr=False)


class Materials(WireModel):
    """The gateway's answer: only what was asked for is filled."""

    v: int = WIRE_VERSION
    code: CodeArchive | None = None
    inputs: tuple[ResolvedInput, ...] = ()
    secrets: tuple[SecretValue, ...] = ()
    registry: RegistryLogin | None = None
    api: JsonObject = {}
    """Content of `api.json` (contract 3.7)."""


MAX_OBJECT_BYTES = 5 * 1024**4
"""What S3 takes as one object."""


def file_name_problem(name: str) -> str | None:
    """What is wrong with the name of a file that is to become a datum, or None. Directories are divided by `/`."""
    if not name or len(name.encode(errors="replace")) > 800:
        return "A file name has between 1 and 800 bytes."
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        return f"The file name {name!r:.100} has control characters."
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in name.split("/")):
        return f"The file name {name!r:.100} has an empty, '.' or '..' part, or one of over 255 bytes."
    return None


class UploadRequest(Storable, StrictModel):
    """A file of the outputs wants to be uploaded. Asking again for the same name, size and version resumes."""

    name: str = Field(min_length=1, max_length=1024)
    """Path relative to the outputs directory, with `/`."""
    size: int = Field(ge=0, le=MAX_OBJECT_BYTES)
    version: str = Field(default="", max_length=100)
    """Changes with the file's bytes, so that parts of an earlier file of that name and size are never mixed in."""


class UploadTicket(WireModel):
    """Where the bytes go: one PUT, or numbered parts of `part_size` bytes each."""

    datum_id: UUID
    multipart: bool
    url: str | None = None
    headers: dict[str, str] = {}
    part_size: int | None = None
    part_urls: dict[int, str] = {}
    """URLs of the first parts; more come from the `parts` call. Numbers start at 1."""
    uploaded_parts: dict[int, str] = {}
    """Parts that the store already has, with their ETags: not sent again."""


class PartUrlsRequest(StrictModel):
    """Ask for signed URLs of these parts."""

    numbers: tuple[int, ...] = Field(min_length=1, max_length=1000)


class PartUrls(WireModel):
    """Signed URLs by part number."""

    part_urls: dict[int, str]


class OutputFile(StrictModel):
    """An uploaded file becomes a datum. Sending it again changes nothing."""

    datum_id: UUID
    name: str
    size: int
    md5: str
    sha1: str
    sha256: str
    etags: dict[int, str] = {}
    """ETags of the parts of a multipart upload, by number."""
    modified_at: datetime | None = None
    properties: JsonObject = {}
    """Free properties and the reserved `valohai.*` keys (contract 3.11)."""


class OutputsRequest(MadeStorable, StrictModel):
    """Register uploaded outputs, many at once."""

    v: int = WIRE_VERSION
    files: tuple[OutputFile, ...] = Field(max_length=1000)
    properties: dict[str, JsonObject] = {}
    """Late properties by output name, for files that are already registered."""


class OutputsAnswer(WireModel):
    """How many outputs the attempt has registered by now."""

    registered: int
    warnings: tuple[str, ...] = ()
    """Reserved keys that could not be followed, in words for the status lines."""
