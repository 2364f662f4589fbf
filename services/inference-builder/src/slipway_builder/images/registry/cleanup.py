"""Takes out of the target's registry what nothing refers to any more."""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from slipway_builder.images.registry.client import RegistryClient


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
    deleted: list[str] = []
    kept: set[str] = set()
    for repository in sorted({name for name in names if name.startswith(inside)}):
        found = {await registry.find_manifest(repository, tag) for tag in await registry.tags(repository)} - {None}
        for digest in sorted(one for one in found if one is not None):
            if digest in referenced:
                kept.add(f"{repository}@{digest}")
            elif dry_run or await registry.delete_manifest(repository, digest):
                deleted.append(f"{repository}@{digest}")
    return CleanUp(tuple(deleted), len(kept), dry_run)
