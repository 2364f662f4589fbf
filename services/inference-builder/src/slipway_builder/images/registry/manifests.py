"""Manifests and their parts, of Docker's and of OCI's types."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from slipway_builder.images.protocol import BuildError, CannotBuild

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

INDEXES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPTED: Final = ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX))

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

# A layer keeps its bytes, and so its digest, under OCI's name for the same thing.
_OCI_LAYER_NAMES: Final = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": OCI_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar": OCI_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": OCI_LAYER_ZSTD,
    OCI_LAYER: OCI_LAYER,
    OCI_LAYER_GZIP: OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD: OCI_LAYER_ZSTD,
}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one of its parts."""

    media_type: str
    digest: str
    size: int

    def document(self) -> dict[str, Any]:
        """As manifests have it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, as the registry has it."""

    media_type: str
    digest: str
    raw: bytes

    @property
    def document(self) -> dict[str, Any]:
        """Its content. Raises `BuildError` for what is no JSON object."""
        try:
            found = json.loads(self.raw)
        except ValueError as error:
            raise BuildError(f"The manifest {self.digest} is not JSON; push the image again.") from error
        if not isinstance(found, dict):
            raise BuildError(f"The manifest {self.digest} is not an object; push the image again.")
        return found


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """The manifest of one image for one platform."""

    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


def digest_of(data: bytes) -> str:
    """The digest that names these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical_json(document: object) -> bytes:
    """The same document gives the same bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_image(manifest: Manifest, name: str) -> ImageManifest:
    """Read the manifest of an image. Raises `CannotBuild` for layers that only an engine knows how to get."""
    document = manifest.document
    try:
        config = _descriptor(document["config"])
        layers = tuple(_layer(one, name) for one in document["layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise BuildError(f"The image {name} has a manifest that cannot be read ({error!r}); push it again.") from error
    return ImageManifest(manifest.digest, config, layers)


def choose_platform(index: Manifest, platform: str, name: str) -> str:
    """The digest of the image for `platform` (`os/architecture[/variant]`). Raises `BuildError` if there is none."""
    system, architecture, variant = (*platform.split("/"), "", "")[:3]
    offered = []
    for one in index.document.get("manifests", []):
        found = one.get("platform") or {}
        mine = (found.get("os"), found.get("architecture"), found.get("variant") or "")
        if mine[:2] == (system, architecture) and (not variant or mine[2] == variant):
            try:
                return _digest(one.get("digest"))
            except ValueError as error:
                raise BuildError(f"The image {name} has an index that cannot be read: {error}.") from error
        offered.append("/".join(part for part in mine if part))
    known = ", ".join(sorted({one for one in offered if "unknown" not in one})) or "none"
    raise BuildError(
        f"The image {name} does not exist for {platform}, which the target needs; it exists for: {known}.",
        code="platform_missing",
    )


def _descriptor(document: dict[str, Any]) -> Descriptor:
    size = int(document["size"])
    if size < 0:
        raise ValueError(f"a size of {size}")
    return Descriptor(str(document.get("mediaType", "")), _digest(document["digest"]), size)


def _digest(found: object) -> str:
    """A digest that was read; it becomes part of addresses in the operator's registry, so nothing else may be in it."""
    if not isinstance(found, str) or not DIGEST.fullmatch(found):
        raise ValueError(f"{found!r} is not a sha256 digest")
    return found


def _layer(document: dict[str, Any], name: str) -> Descriptor:
    found = _descriptor(document)
    known = _OCI_LAYER_NAMES.get(found.media_type)
    if known is None or document.get("urls"):
        raise CannotBuild(f"{name} has a layer of the kind {found.media_type}, which cannot be mounted.")
    return Descriptor(known, found.digest, found.size)
