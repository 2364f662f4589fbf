"""What must be true of an installation after every kill: nothing doubled, nothing left, nothing undone."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.targets.process.replicas import LOG_FILE, ReplicaState
from tests.chaos.inference.site import ALIAS, Site

_SECONDS = 60.0


async def calm(site: Site) -> None:
    """Wait until everything that is wanted is applied and observed, and nothing is being built."""
    async with asyncio.timeout(180):
        while await site.rows(
            """
            SELECT 1 FROM endpoints e JOIN images i ON i.id = e.image_id
            WHERE e.generation <> e.applied_generation OR i.status IN ('waiting', 'building')
                OR (e.serving AND e.status <> 'AVAILABLE')
            """
        ):
            await asyncio.sleep(0.05)


async def check_rows(site: Site) -> None:
    """One image for each version, and the alias has stood where it was put and nowhere else."""
    images = await site.rows(
        "SELECT i.status, i.digest FROM images i JOIN versions v ON v.id = i.version_id WHERE v.deleted_at IS NULL"
    )
    versions = await site.rows("SELECT 1 FROM versions WHERE deleted_at IS NULL")
    assert len(images) == len(versions)
    assert all(one.status == "ready" and one.digest for one in images), images
    moves = await site.rows("SELECT version_id, previous_version_id FROM alias_moves ORDER BY at")
    path = [str(one.version_id) for one in moves]
    assert path == site.moves, f"the alias stood at {path}, not {site.moves}"
    before = [str(one.previous_version_id) for one in moves[1:]]
    assert before == path[:-1]
    standing = await site.rows("SELECT version_id FROM aliases")
    assert [str(one.version_id) for one in standing] == site.moves[-1:]


async def check_routers(site: Site) -> None:
    """Every router serves what the rows say, at the alias and at every version, and nothing of a deleted one."""
    versions = await site.rows("SELECT id, name, deleted_at FROM versions")
    wanted: dict[str, tuple[int, str]] = {}
    for one in versions:
        serves = one.deleted_at is None
        wanted[one.name] = (200, one.name) if serves else (404, "")
        if site.moves and str(one.id) == site.moves[-1]:
            wanted[ALIAS] = (200, one.name)
    for number in range(len(site.routers)):
        until = asyncio.get_running_loop().time() + _SECONDS
        while True:
            found = {name: await site.asked(name, number) for name in wanted}
            if found == wanted:
                break
            assert asyncio.get_running_loop().time() < until, f"router {number}: {found}, not {wanted}"
            await asyncio.sleep(0.1)


async def eventually(found: Any, wanted: Any, what: str) -> None:
    """Ask until it is so; `found` and `wanted` are called."""
    until = asyncio.get_running_loop().time() + _SECONDS
    while (there := await asyncio.to_thread(found)) != wanted:
        assert asyncio.get_running_loop().time() < until, f"{what}: {there}, not {wanted}"
        await asyncio.sleep(0.1)


async def check_folders(site: Site) -> None:
    """Nothing lies in the folders of builders that have ended."""
    alive = len(site.builders)

    def folders() -> bool:
        work = [path for path in (site.home / "work").iterdir() if path.suffix != ".lock"]
        inside = [name for path in work for name in os.listdir(path)]
        parts = site.home / "serving" / "parts"
        halves = [path for path in parts.iterdir() if path.is_dir()] if parts.is_dir() else []
        return len(work) == alive and inside == [] and len(halves) <= alive and not any(os.listdir(p) for p in halves)

    await eventually(folders, True, "only the living builders have folders, and those are empty")


async def check_processes(site: Site) -> None:
    """As many servers run as endpoints are to serve, each known by its state file; bundles are those of versions."""
    root = site.home / "serving"
    wanted = await site.rows(
        "SELECT e.id, i.reference FROM endpoints e JOIN images i ON i.id = e.image_id WHERE e.serving"
    )

    def running() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            try:
                log = str(Path(f"/proc/{name}/fd/1").readlink()).removesuffix(" (deleted)")
                leader = os.getpgid(int(name)) == int(name)
            except OSError:
                continue
            if log.endswith(f"/{LOG_FILE}") and log.startswith(str(root)) and leader:
                found.setdefault(Path(log).parent.parent.name, []).append(int(name))
        return found

    def noted() -> dict[str, list[int]]:
        states = {path: ReplicaState.read(path.parent) for path in (root / "replicas").glob("*/*/state.json")}
        return {path.parent.parent.name: [state.pid] for path, state in states.items() if state is not None}

    def names() -> tuple[list[str], list[str], bool]:
        there = running()
        return sorted(there), sorted(os.listdir(root / "replicas")), noted() == there

    ids = sorted(str(one.id) for one in wanted)
    await eventually(names, (ids, ids, True), "servers that run, folders, and whether they are noted")
    await clean_up(site)
    bundles = sorted({one.reference.removeprefix("bundle:").partition("+")[0] for one in wanted})
    await eventually(lambda: sorted(os.listdir(root / "code")), bundles, "bundles")


async def check_containers(site: Site) -> None:
    """One container for each endpoint that is to serve, none of a build, and one image for each version."""
    wanted = await site.rows(
        "SELECT e.id, i.reference FROM endpoints e JOIN images i ON i.id = e.image_id WHERE e.serving"
    )

    def serving() -> list[str]:
        label = f"label=slipway.installation={site.installation}"
        return sorted(_docker("ps", "--filter", label, "--format", '{{.Label "slipway.endpoint"}}').split())

    def building() -> list[str]:
        return _docker("ps", "-a", "--filter", f"name=slipway-build-{site.installation}-", "-q").split()

    def images() -> list[str]:
        label = f"label=slipway.image-installation={site.installation}"
        found = _docker("images", "--no-trunc", "-a", "--filter", label, "-q").split()
        return sorted(set(found))

    await eventually(serving, sorted(str(one.id) for one in wanted), "containers that serve")
    await eventually(building, [], "containers of builds")
    await clean_up(site)
    await eventually(images, sorted({one.reference for one in wanted}), "images")


async def check_registry(site: Site, registry: RegistryClient, prefix: str) -> None:
    """One image in the registry for each version, under its digest, with its list of contents; nothing else."""
    await clean_up(site)
    rows = await site.rows(
        """
        SELECT DISTINCT i.digest FROM images i JOIN versions v ON v.id = i.version_id
        WHERE v.deleted_at IS NULL AND i.status = 'ready'
        """
    )
    repository = f"{prefix}/{site.deployment_id}"
    tags = await registry.tags(repository)
    images = {tag: await registry.find_manifest(repository, tag) for tag in tags if tag.startswith("v-")}
    digests = sorted(str(digest) for digest in images.values())
    assert digests == sorted(row.digest for row in rows), images
    attached = sorted(tag.replace("-", ":", 1) for tag in tags if not tag.startswith("v-"))
    assert attached == digests, "every image has its list of contents, and no list is left over"


async def check_cluster(site: Site, objects: Callable[[str], list[dict[str, Any]]]) -> None:
    """Each endpoint that is to serve has all of its objects and one pod; nothing is there of any other."""
    wanted = sorted(str(row.id) for row in await site.rows("SELECT id FROM endpoints WHERE serving"))

    def found() -> dict[str, list[str]]:
        kinds = ("deployments", "services", "networkpolicies", "secrets", "pods")
        more = ("horizontalpodautoscalers", "poddisruptionbudgets")
        there = {kind: sorted(_endpoint_of(one) for one in objects(kind)) for kind in (*kinds, *more)}
        return {kind: ids for kind, ids in there.items() if ids}

    kinds = ("deployments", "services", "networkpolicies", "secrets", "pods")
    await eventually(found, {kind: wanted for kind in kinds if wanted}, "objects on the cluster")


def _endpoint_of(found: dict[str, Any]) -> str:
    return str(found["metadata"]["labels"]["slipway/endpoint-id"])


async def clean_up(site: Site) -> None:
    """As an administrator does it: again, while a builder that has just started does it by itself."""
    async with asyncio.timeout(_SECONDS), site.speaker(_living(site)) as speaker:
        while True:
            try:
                await speaker.call("POST", f"targets/{site.target_id}/clean-up?dry_run=false")
            except AssertionError as error:
                if "builds_under_way" not in str(error):
                    raise
                await asyncio.sleep(0.1)
            else:
                return


def _living(site: Site) -> int:
    return next(number for number, one in enumerate(site.builders) if not one.stopped)


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def remove_images(site: Site) -> None:
    """Take the images of a site out of the engine again."""
    label = f"label=slipway.image-installation={site.installation}"
    for image in set(_docker("images", "-a", "--filter", label, "-q").split()):
        subprocess.run(["docker", "rmi", "-f", image], capture_output=True, timeout=60, check=False)
