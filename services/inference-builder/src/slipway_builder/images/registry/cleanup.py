"""Takes out of the target's registry what nothing refers to any more."""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import INDEXES

_OF_AN_IMAGE: Final = re.compile(r"sha256-[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CleanUp:
    """What a clean-up has deleted, or with a dry run would delete."""

    deleted: tuple[str, ...]
    """`repository@digest`."""
    kept: int
    dry_run: bool


async def clean_up(
    registry: RegistryClient,
    prefix: str,
    referenced: Set[str],
    *,
    dry_run: bool = True,
    repositories: Iterable[str] = (),
) -> CleanUp:
    """Delete the images below `prefix` whose digest is not in `referenced`.

    `referenced`: digests of images and of their bases. `repositories`: those to look at, for a registry that does not
    list them. The registry frees the space of the layers itself, when it collects its garbage. An image that is being
    built now is not referenced yet: do not run this while a build into `prefix` is under way.
    """
    inside = f"{prefix.strip('/')}/"
    names = list(repositories) or await registry.repositories()
    deleted: set[str] = set()
    kept: set[str] = set()
    for repository in sorted({name for name in names if name.startswith(inside)}):
        for tag in sorted(await registry.tags(repository)):
            digest = await registry.find_manifest(repository, tag)
            if digest is None:
                continue
            # What refers to an image lies under a tag that names the image's digest; it goes with the image.
            subject = tag.replace("-", ":", 1) if _OF_AN_IMAGE.fullmatch(tag) else digest
            if subject in referenced:
                kept.add(f"{repository}@{subject}")
                continue
            if not dry_run:
                await _delete(registry, repository, digest)
            deleted.add(f"{repository}@{subject}")
    return CleanUp(tuple(sorted(deleted)), len(kept), dry_run)


async def _delete(registry: RegistryClient, repository: str, digest: str) -> None:
    """Delete a manifest, and the manifests that it lists."""
    manifest = await registry.manifest(repository, digest)
    if manifest.media_type in INDEXES:
        for one in manifest.document.get("manifests") or ():
            await registry.delete_manifest(repository, str(one["digest"]))
    await registry.delete_manifest(repository, digest)
