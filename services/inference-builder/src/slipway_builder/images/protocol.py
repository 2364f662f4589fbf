"""What every image builder takes and gives."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from slipway_kit.errors import SlipwayError
from slipway_schemas.base import JsonObject
from slipway_schemas.inference.versions import EndpointSpec

WORK_DIRECTORY = "/valohai"
"""Holds code, files and `valohai-metadata.json` directly inside (contract 4.4)."""

HOME_DIRECTORY = "/valohai/.home"
"""HOME at build and at run time, so that `pip install --user` and `~/.local/bin` agree (contract 4.4)."""

ENDPOINT_UID = 10001
METADATA_FILE = "valohai-metadata.json"
REQUIREMENTS_FILES = ("requirements-deployment.txt", "requirements.txt")
"""The first one that exists in the root of the code is installed (contract 4.4)."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that goes into the image, read when it is needed: it may be larger than the memory."""

    path: str
    """Relative to the work directory; checked by the builder again: it must not leave it."""
    size: int
    sha256: str | None
    open: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """An image registry and the right to use it."""

    host: str
    """`host[:port]`, as image references name it."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    plain_http: bool = False
    """Only for a registry on the loopback or on a network of the operator's own."""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image to build."""

    image_id: UUID
    base: str
    """The endpoint's image as `valohai.yaml` names it."""
    registry: RegistryAccess
    repository: str
    """Where it is pushed, without the host: `<prefix>/<deployment id>`."""
    code: Path
    """The commit's files as a tar archive, compressed with zstd or gzip."""
    files: tuple[FileSource, ...]
    metadata: JsonObject
    """Content of `valohai-metadata.json`."""
    spec: EndpointSpec
    sources: tuple[RegistryAccess, ...] = ()
    """Credentials of registries that base images come from."""
    platform: str = "linux/amd64"
    lease: UUID | None = None
    """The try of this build, by which what an ended builder left in an engine is told."""


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in the registry."""

    reference: str
    """`host/repository@sha256:…`; a target runs exactly this."""
    digest: str
    base_digest: str
    size: int
    """Compressed bytes of all layers."""
    pushed: int
    """Bytes that this build sent."""
    command: tuple[str, ...]
    """The argv that starts the server."""
    seconds: dict[str, float]
    """Where the time went, by step."""


class BuildError(SlipwayError):
    """The image cannot be built from this version; the message is for its author. Building again is no use."""

    code = "build_failed"


class CannotBuild(SlipwayError):
    """This builder is the wrong one for the request; another may do it. The message says why."""

    code = "builder_unfit"


class BuildLog(Protocol):
    """Takes the lines that a person who waits for the image reads."""

    def __call__(self, line: str, /) -> None:
        """Add a line."""
        ...


class ImageBuilder(Protocol):
    """Builds and pushes. Cancelling the call stops the work and leaves nothing behind but unreferenced blobs."""

    @property
    def name(self) -> str:
        """Name in settings and in the build log."""
        ...

    async def build(self, request: ImageRequest, log: BuildLog) -> BuiltImage:
        """Build and push; the same request gives the same digest.

        Raises `CannotBuild`, `BuildError`, or `Unavailable` when a registry or an engine does not answer.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...
