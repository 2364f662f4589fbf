"""SQL of uploads."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.data.domain import Upload
from slipway_gateway.data.store.records import upload_of
from slipway_gateway.data.tables import UploadRow


class UploadStore:
    """Reads and writes uploads in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, Upload]:
        """These uploads, as far as they are unfinished."""
        rows = await self._session.scalars(select(UploadRow).where(UploadRow.id.in_(ids)))
        return {row.id: upload_of(row) for row in rows}

    async def add(self, values: Mapping[str, Any]) -> Upload:
        """Begin an upload."""
        row = UploadRow(**values)
        self._session.add(row)
        await self._session.flush()
        return upload_of(row)

    async def of_output(self, values: Mapping[str, Any]) -> Upload:
        """The unfinished upload of this version of an output by this attempt, begun with these values if need be."""
        statement = insert(UploadRow).values(**values)
        same = statement.on_conflict_do_update(
            index_elements=["attempt_id", "name", "size", "version"], set_={"name": statement.excluded.name}
        )
        row = (await self._session.scalars(same.returning(UploadRow))).one()
        return upload_of(row)

    async def set_upload_id(self, upload_id: UUID, store_upload_id: str, *, instead_of: str | None) -> Upload | None:
        """Keep the store's id of an upload in parts, unless somebody was faster. None when the upload is over."""
        row = await self._session.get(UploadRow, upload_id, with_for_update=True)
        if row is None:
            return None
        if row.upload_id == instead_of:
            row.upload_id = store_upload_id
            await self._session.flush()
        return upload_of(row)

    async def in_parts(self, store_id: UUID | None) -> set[str]:
        """The store's ids of all unfinished uploads in parts of one store."""
        wanted = UploadRow.store_id.is_(None) if store_id is None else UploadRow.store_id == store_id
        found = await self._session.scalars(select(UploadRow.upload_id).where(wanted, UploadRow.upload_id.is_not(None)))
        return {one for one in found if one is not None}

    async def finish(self, ids: Sequence[UUID]) -> None:
        """Forget uploads that became datums, or were aborted."""
        await self._session.execute(delete(UploadRow).where(UploadRow.id.in_(ids)))

    async def abort_later(self, execution_id: UUID, at: datetime) -> None:
        """Have the unfinished uploads of an execution aborted after this time."""
        statement = update(UploadRow).where(UploadRow.execution_id == execution_id, UploadRow.abort_at.is_(None))
        await self._session.execute(statement.values(abort_at=at))

    async def overdue(self, now: datetime, stale_before: datetime, limit: int) -> list[Upload]:
        """Uploads to abort: those marked, and those of people that were left lying."""
        statement = (
            select(UploadRow)
            .where(
                (UploadRow.abort_at <= now) | (UploadRow.execution_id.is_(None) & (UploadRow.created_at < stale_before))
            )
            .limit(limit)
        )
        return [upload_of(row) for row in await self._session.scalars(statement)]
