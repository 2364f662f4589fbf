"""Loops of data."""

from sqlalchemy import TextClause, text

from slipway_db import Database
from slipway_gateway.data.domain import STALE_UPLOAD
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.store.uploads import UploadStore
from slipway_kit.clock import Clock
from slipway_storage import MultipartUpload

_BATCH = 50


class AbortUploads:
    """Gives up uploads that nobody will complete: their parts go, and their bytes, then the row.

    It leaves the database, and holds no lease: aborting twice is no error, and a row goes only after its bytes.
    """

    name = "data.abort_uploads"
    channel: str | None = None

    def __init__(self, db: Database, stores: Stores, clock: Clock) -> None:
        self._db = db
        self._stores = stores
        self._clock = clock

    @property
    def due(self) -> TextClause | None:
        """Whether an upload is overdue."""
        seconds = int(STALE_UPLOAD.total_seconds())
        return text(
            "EXISTS (SELECT FROM uploads WHERE abort_at <= now() OR (execution_id IS NULL"
            f" AND created_at < now() - interval '{seconds} seconds'))"
        )

    async def run(self) -> int:
        """Abort a batch."""
        now = self._clock.now()
        async with self._db.read() as session:
            overdue = await UploadStore(session).overdue(now, now - STALE_UPLOAD, _BATCH)
        for upload in overdue:
            store = await self._stores.open(upload.store_id)
            if upload.upload_id is not None:
                await store.abort_multipart(MultipartUpload(key=upload.key, upload_id=upload.upload_id))
            await store.delete(upload.key)
            async with self._db.transaction() as session:
                await UploadStore(session).finish([upload.id])
        return len(overdue)
