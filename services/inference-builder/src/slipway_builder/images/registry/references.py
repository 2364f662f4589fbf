"""Names of images, read by the rules of Docker: `python:3.11` is `docker.io/library/python:3.11`."""

import re
from dataclasses import dataclass
from typing import Final

from slipway_builder.images.protocol import BuildError
from slipway_builder.images.registry.manifests import DIGEST

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_API: Final = "registry-1.docker.io"
_HUB_ALIASES: Final = frozenset({"index.docker.io", "registry-1.docker.io", "docker.io"})
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image of a registry, by tag or by digest."""

    host: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"


def parse_reference(text: str) -> ImageReference:
    """Read an image's name. Raises `BuildError` for what is none."""
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _unreadable(text, f"{digest!r} is not a sha256 digest")
    host, repository = _split_host(rest)
    repository, colon, tag = repository.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _unreadable(text, f"{tag!r} is not a tag")
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _REPOSITORY.fullmatch(repository):
        raise _unreadable(text, "the name before the tag has lower-case letters, digits, and . _ - / between them")
    if not _HOST.fullmatch(host):
        raise _unreadable(text, f"{host!r} is not a host")
    return ImageReference(host, repository, tag or (None if digest else "latest"), digest or None)


def canonical_host(host: str) -> str:
    """One name for each registry: Docker Hub has several."""
    return DOCKER_HUB if host.lower() in _HUB_ALIASES else host.lower()


def api_host(host: str) -> str:
    """The host that speaks the registry's protocol."""
    return _DOCKER_HUB_API if canonical_host(host) == DOCKER_HUB else host


def _split_host(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return canonical_host(first), rest
    return DOCKER_HUB, text


def _unreadable(text: str, why: str) -> BuildError:
    return BuildError(
        f"The image {text!r} cannot be read: {why}. Write it as [host/]name[:tag] or [host/]name@sha256:… "
        "in valohai.yaml.",
        code="image_unreadable",
    )
