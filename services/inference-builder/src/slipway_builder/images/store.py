"""SQL of images and of the lines of their builds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.channels import IMAGES
from slipway_builder.images.protocol import BuiltImage
from slipway_builder.images.tables import ImageLineRow, ImageRow
from slipway_builder.versions.tables import VersionRow
from slipway_db import leases, notify
from slipway_schemas.executions import CodeRef
from slipway_schemas.inference.statuses import ImageStatus

_MAY_START = text("""(images.try_after IS NULL OR images.try_after < now()) AND NOT images.cancel_wanted
    AND NOT EXISTS (SELECT FROM clean_ups c WHERE c.id = images.target_id AND c.leased_until > now())""")


@dataclass(frozen=True, slots=True)
class LeasedImage:
    """An image that is this builder's to build."""

    id: UUID
    token: UUID
    version_id: UUID
    target_id: UUID
    base: str
    tries: int


@dataclass(frozen=True, slots=True)
class BuildSource:
    """What an image is made from."""

    project_id: UUID
    deployment_id: UUID
    path: str
    deployment: str
    deployment_created_at: datetime
    version_name: str
    version_created_at: datetime
    creator_id: int
    creator_name: str
    code: CodeRef
    own_variables: Mapping[str, str]
    details: Mapping[str, Any]
    endpoint_id: UUID


class ImageStore:
    """Reads and writes images in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def insert(self, image_id: UUID, *, version_id: UUID, target_id: UUID, base: str) -> None:
        """Add an image that waits to be built."""
        await self._session.execute(
            insert(ImageRow).values(
                id=image_id,
                version_id=version_id,
                target_id=target_id,
                base=base,
                status=ImageStatus.WAITING,
                detail="Waiting for a builder.",
                tries=0,
                cancel_wanted=False,
                builder="",
                reference="",
                digest="",
                command=[],
                size=0,
                seconds={},
            )
        )
        await notify(self._session, IMAGES)

    async def lease(self, seconds: float) -> LeasedImage | None:
        """Take the oldest image that may be built, also one whose builder is gone."""
        await self.lock_leases()
        table: Any = ImageRow.__table__
        lease = await leases.fetch(
            self._session,
            table,
            table.c.status.in_((ImageStatus.WAITING, ImageStatus.BUILDING)) & _MAY_START.self_group(),
            order_by=[table.c.created_at],
            limit=1,
            seconds=seconds,
        )
        for row in lease.rows:
            await self._session.execute(
                text("""
                UPDATE images SET status = 'building', detail = 'The image is being built.', tries = tries + 1,
                    started_at = now(), ended_at = NULL WHERE id = :id
                """),
                {"id": row["id"]},
            )
            await self._session.execute(text("DELETE FROM image_lines WHERE image_id = :id"), {"id": row["id"]})
            return LeasedImage(
                row["id"], lease.token, row["version_id"], row["target_id"], row["base"], row["tries"] + 1
            )
        return None

    async def lock_leases(self) -> None:
        """Let nobody else begin a build or a clean-up until this transaction ends: the two exclude each other."""
        await self._session.execute(text("SELECT pg_advisory_xact_lock(hashtext('slipway_builder.images'))"))

    async def renew(self, image: LeasedImage, seconds: float) -> bool:
        """Keep the lease; False when it is someone else's, or the build is to be cancelled."""
        kept = await self._session.scalar(
            text("""
            UPDATE images SET leased_until = now() + make_interval(secs => :seconds)
            WHERE id = :id AND lease_token = :token AND NOT cancel_wanted RETURNING id
            """),
            {"seconds": seconds, "id": image.id, "token": image.token},
        )
        return kept is not None

    async def holds(self, image: LeasedImage) -> bool:
        """Lock the image's row if the lease is still ours."""
        statement = (
            select(ImageRow.id).where(ImageRow.id == image.id, ImageRow.lease_token == image.token).with_for_update()
        )
        return await self._session.scalar(statement) is not None

    async def cancel_wanted(self, image: LeasedImage) -> bool:
        """Whether a person wants this build to stop."""
        return bool(await self._session.scalar(select(ImageRow.cancel_wanted).where(ImageRow.id == image.id)))

    async def leased(self, tokens: Collection[UUID]) -> set[UUID]:
        """Those of the leases that still hold."""
        statement = select(ImageRow.lease_token).where(
            ImageRow.lease_token.in_(tokens), ImageRow.leased_until > text("now()")
        )
        return {token for token in (await self._session.scalars(statement)).all() if token is not None}

    async def built(self, image: LeasedImage, builder: str, built: BuiltImage) -> bool:
        """Write what was built; False when the lease is someone else's by now."""
        return await self._end(
            image,
            status=ImageStatus.READY,
            detail="",
            builder=builder,
            reference=built.reference,
            digest=built.digest,
            base_digest=built.base_digest,
            command=list(built.command),
            size=built.size,
            seconds=dict(built.seconds),
            ended_at=text("now()"),
        )

    async def failed(self, image: LeasedImage, detail: str, status: ImageStatus = ImageStatus.FAILED) -> bool:
        """Write why there is no image."""
        return await self._end(image, status=status, detail=detail, cancel_wanted=False, ended_at=text("now()"))

    async def again(self, image: LeasedImage, detail: str, seconds: float, *, counts: bool) -> bool:
        """Wait and try again; a try that does not count is taken back."""
        tries = image.tries if counts else image.tries - 1
        after = text("now() + make_interval(secs => :later)").bindparams(later=seconds)
        return await self._end(image, status=ImageStatus.WAITING, detail=detail, tries=tries, try_after=after)

    async def _end(self, image: LeasedImage, **values: Any) -> bool:
        table: Any = ImageRow.__table__
        return await leases.apply(self._session, table, image.id, image.token, values)

    async def cancel_of_version(self, version_id: UUID) -> None:
        """Cancel what waits at once, and ask the builder of what is being built to stop."""
        await self._session.execute(
            text("""
            UPDATE images SET cancel_wanted = (status = 'building'),
                ended_at = CASE WHEN status = 'waiting' THEN now() END,
                detail = CASE WHEN status = 'waiting' THEN 'The build was cancelled.' ELSE detail END,
                status = CASE WHEN status = 'waiting' THEN 'cancelled' ELSE status END
            WHERE version_id = :version AND status IN ('waiting', 'building')
            """),
            {"version": version_id},
        )

    async def retry_of_version(self, version_id: UUID) -> int:
        """Let failed and cancelled images wait for a builder again; returns how many those are."""
        result = await self._session.execute(
            text("""
            UPDATE images SET status = 'waiting', detail = 'Waiting for a builder.', tries = 0, try_after = NULL,
                cancel_wanted = false WHERE version_id = :version AND status IN ('failed', 'cancelled') RETURNING id
            """),
            {"version": version_id},
        )
        await notify(self._session, IMAGES)
        return len(result.all())

    async def source(self, image_id: UUID) -> BuildSource | None:
        """What to build it from; None when its version is gone."""
        row = (
            await self._session.execute(
                text("""
                SELECT v.project_id, v.deployment_id, d.path, d.name AS deployment,
                    d.created_at AS deployment_created_at, v.name AS version_name, v.created_at AS version_created_at,
                    v.creator_id, v.creator_name, v.code, v.own_variables, v.details, e.id AS endpoint_id
                FROM images i JOIN versions v ON v.id = i.version_id JOIN deployments d ON d.id = v.deployment_id
                JOIN endpoints e ON e.image_id = i.id
                WHERE i.id = :id AND v.deleted_at IS NULL AND d.deleted_at IS NULL
                """),
                {"id": image_id},
            )
        ).mappings()
        found = row.first()
        return None if found is None else BuildSource(**{**found, "code": CodeRef.model_validate(found["code"])})

    async def deployment_of(self, image_id: UUID) -> UUID | None:
        """The deployment whose version the image is of."""
        deployment: UUID | None = await self._session.scalar(
            select(VersionRow.deployment_id)
            .join(ImageRow, ImageRow.version_id == VersionRow.id)
            .where(ImageRow.id == image_id)
        )
        return deployment

    async def add_lines(self, image_id: UUID, first: int, lines: Sequence[tuple[datetime, str]]) -> None:
        """Add lines to a build's log."""
        if lines:
            await self._session.execute(
                insert(ImageLineRow),
                [
                    {"image_id": image_id, "position": first + number, "at": at, "line": line}
                    for number, (at, line) in enumerate(lines)
                ],
            )

    async def lines(self, image_id: UUID, after: int, limit: int) -> list[tuple[int, str]]:
        """Lines of a build's log from position `after` on."""
        statement = (
            select(ImageLineRow.position, ImageLineRow.line)
            .where(ImageLineRow.image_id == image_id, ImageLineRow.position >= after)
            .order_by(ImageLineRow.position)
            .limit(limit)
        )
        return [(row.position, row.line) for row in (await self._session.execute(statement)).all()]

    async def status(self, image_id: UUID) -> tuple[ImageStatus, str] | None:
        """How far an image is."""
        row = (
            await self._session.execute(select(ImageRow.status, ImageRow.detail).where(ImageRow.id == image_id))
        ).first()
        return None if row is None else (ImageStatus(row.status), row.detail)
