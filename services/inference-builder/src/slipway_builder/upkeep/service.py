"""Use cases of upkeep. They open units of work of their own, because they call registries and engines."""

import asyncio
from functools import partial
from uuid import UUID

from slipway_builder.images.builders.docker_engine import Engine
from slipway_builder.images.for_targets import image_settings
from slipway_builder.images.registry.bases import BASES
from slipway_builder.images.registry.cleanup import clean_up
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.store import ImageStore
from slipway_builder.leasing import held
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.process.target import ProcessTarget
from slipway_builder.targets.store import Target, TargetStore
from slipway_builder.upkeep.store import Referenced, UpkeepStore
from slipway_builder.work_folders import WorkFolder
from slipway_db import Database
from slipway_kit.errors import Conflict, NotFound, SlipwayError, Unavailable
from slipway_kit.logging import get_logger
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import CleanUpReport

_log = get_logger()

BUSY = "builds_under_way"


class UpkeepService:
    """Takes away left-overs, and images that nothing refers to."""

    def __init__(self, db: Database, pool: TargetPool, engine: Engine, work: WorkFolder, lease_seconds: float) -> None:
        self._db = db
        self._pool = pool
        self._engine = engine
        self._work = work
        self._lease_seconds = lease_seconds

    async def clean_up(self, target_id: UUID, *, dry_run: bool) -> CleanUpReport:
        """Delete the images of a target that no version needs, or say which those are.

        Raises `NotFound`, `Unavailable`, and `Conflict` with the code `builds_under_way`: an image that has just been
        pushed is not in the database yet, so nothing is built where something is deleted.
        """
        async with self._db.read() as session:
            targets = await TargetStore(session).all()
        target = next((one for one in targets if one.id == target_id), None)
        if target is None:
            raise NotFound(f"There is no deployment target {target_id}.")
        if dry_run:
            return await self._clean_up(target, dry_run=True)
        sharing = [one.id for one in targets if self._place(one) == self._place(target)]
        since = asyncio.get_running_loop().time()
        async with self._db.transaction() as session:
            token = await UpkeepStore(session).begin(sharing, self._lease_seconds)
        if token is None:
            raise Conflict("Images are being built for this target now. Try again in a minute.", code=BUSY)
        try:
            async with held(partial(self._renew, token), self._lease_seconds, since):
                return await self._clean_up(target, dry_run=False)
        finally:
            async with self._db.transaction() as session:
                await UpkeepStore(session).end(token)

    async def sweep(self) -> list[str]:
        """Take away what builders left that have ended: their folders, and containers whose lease is over."""
        swept = [f"folder {name}" for name in await self._work.sweep()]
        async with self._db.read() as session:
            targets = await TargetStore(session).all()
        kinds = {one.kind for one in targets}
        for one in targets:
            if one.kind is TargetKind.PROCESS and isinstance(found := self._open(one), ProcessTarget):
                swept += [f"bundle {name}" for name in await found.bundles.sweep()]
        if kinds & {TargetKind.DOCKER, TargetKind.KUBERNETES} and self._engine.present:
            swept += [f"container {name}" for name in await self._sweep_containers()]
        if swept:
            _log.info("left_overs_removed", what=swept)
        return swept

    async def _sweep_containers(self) -> list[str]:
        """Containers are listed first: one whose lease does not hold afterwards is nobody's any more."""
        try:
            containers = await self._engine.builds()
            async with self._db.read() as session:
                leased = await ImageStore(session).leased(containers.keys())
            left = [container for lease, container in containers.items() if lease not in leased]
            for container in left:
                await self._engine.remove(container)
        except Unavailable as error:
            _log.warning("containers_not_swept", error=error.message)
            return []
        return [container[:12] for container in left]

    async def _renew(self, token: UUID) -> bool:
        async with self._db.transaction() as session:
            return await UpkeepStore(session).renew(token, self._lease_seconds)

    async def _clean_up(self, target: Target, *, dry_run: bool) -> CleanUpReport:
        async with self._db.read() as session:
            needed = await UpkeepStore(session).referenced()
            deployments = await UpkeepStore(session).deployments([target.id])
        match target.kind:
            case TargetKind.PROCESS:
                deleted, kept = await self._of_process(target, needed, dry_run)
            case TargetKind.DOCKER:
                deleted, kept = await self._engine.unreferenced(needed.references, delete=not dry_run)
            case TargetKind.KUBERNETES:
                deleted, kept = await self._of_registry(target, needed, deployments, dry_run)
        if deleted and not dry_run:
            _log.info("images_deleted", target=target.name, images=deleted)
        return CleanUpReport(deleted=deleted, kept=kept, dry_run=dry_run)

    async def _of_process(self, target: Target, needed: Referenced, dry_run: bool) -> tuple[tuple[str, ...], int]:
        found = self._pool.open(target)
        if not isinstance(found, ProcessTarget):
            return (), 0
        return await found.bundles.unreferenced(needed.references, delete=not dry_run)

    async def _of_registry(
        self, target: Target, needed: Referenced, deployments: list[UUID], dry_run: bool
    ) -> tuple[tuple[str, ...], int]:
        """Only repositories of this installation's own deployments: others may use the registry too."""
        settings = image_settings(self._pool.settings(target)).registry
        if not settings.prefix.strip("/"):
            return (), 0  # the registry's root is nobody's own
        names = [f"{settings.prefix.strip('/')}/{name}" for name in (*deployments, BASES)]
        client = RegistryClient(settings.access())
        try:
            done = await clean_up(client, settings.prefix, needed.digests, dry_run=dry_run, repositories=names)
        finally:
            await client.aclose()
        return done.deleted, done.kept

    def _place(self, target: Target) -> tuple[str, str]:
        """Where its images lie: targets with the same place are cleaned up as one."""
        if target.kind is not TargetKind.KUBERNETES:
            return target.kind, ""
        try:
            return target.kind, image_settings(self._pool.settings(target)).registry.host
        except SlipwayError:  # settings that cannot be used: nothing is built with them either
            return target.kind, str(target.id)

    def _open(self, target: Target) -> object:
        try:
            return self._pool.open(target)
        except SlipwayError:  # not a kind that this installation serves
            return None
