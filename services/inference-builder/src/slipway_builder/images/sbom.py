"""What an image is made of, as a CycloneDX document that the registry keeps beside it (an OCI referrer)."""

import re
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import (
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    canonical_json,
    digest_of,
)

CYCLONEDX: Final = "application/vnd.cyclonedx+json"
EMPTY: Final = b"{}"
"""The configuration of an artifact that has none; it must be in the registry, as the document must."""
_DISTRIBUTION: Final = re.compile(r"(?P<name>[^/]+?)-(?P<version>[^-/]+)\.dist-info")

Package = tuple[str, str]
"""Name and version of a Python distribution."""


def packages_in(layer: Path) -> list[Package]:
    """The Python distributions that a layer installs. Blocking."""
    found: set[Package] = set()
    with tarfile.open(layer) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.name == "METADATA" and (match := _DISTRIBUTION.fullmatch(path.parent.name)):
                found.add((re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"]))
    return sorted(found)


def make_sbom(base_name: str, base_digest: str, packages: Iterable[Package]) -> bytes:
    """The document: the base image, and every package that was put on top of it. It holds no time of its own."""
    components = [
        {"type": "container", "name": base_name, "version": base_digest, "bom-ref": base_digest},
        *(
            {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
            for name, version in packages
        ),
    ]
    return canonical_json({"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components})


async def attach(registry: RegistryClient, repository: str, subject: Descriptor, document: bytes) -> None:
    """Keep the document as a referrer of `subject`; the document and `EMPTY` were uploaded before.

    A registry that has no list of referrers gets one under the tag that the specification names for it.
    """
    described = Descriptor(CYCLONEDX, digest_of(document), len(document))
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": CYCLONEDX,
            "config": Descriptor(OCI_EMPTY, digest_of(EMPTY), len(EMPTY)).document(),
            "layers": [described.document()],
            "subject": subject.document(),
        }
    )
    listed = await registry.put_referrer(repository, digest_of(manifest), manifest, OCI_MANIFEST)
    tag = subject.digest.replace(":", "-")
    if listed or await registry.find_manifest(repository, tag) is not None:
        return
    entry = {**Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest)).document(), "artifactType": CYCLONEDX}
    index = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    await registry.put_manifest(repository, tag, index, OCI_INDEX)
