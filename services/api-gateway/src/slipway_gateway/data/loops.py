"""Loops of data."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import TextClause, text

from slipway_db import Database
from slipway_gateway.data.domain import BUILT_IN_STORE_ID
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.store.sweeps import SweepStore
from slipway_gateway.data.store.uploads import UploadStore
from slipway_kit.clock import Clock
from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger
from slipway_storage import MultipartUpload, ObjectStore
from slipway_storage.keys import is_slipway_key

_LOG = get_logger()
_BATCH = 50
_SWEEP_SECONDS: Final = 600.0


class AbortUploads:
    """Gives up uploads that nobody will complete: their parts go, and their bytes, then the row.

    It leaves the database, and holds no lease: aborting twice is no error, and a row goes only after its bytes.
    """

    name = "data.abort_uploads"
    channel: str | None = None

    def __init__(self, db: Database, stores: Stores, clock: Clock, abandoned_after: timedelta) -> None:
        self._db = db
        self._stores = stores
        self._clock = clock
        self._abandoned_after = abandoned_after

    @property
    def due(self) -> TextClause | None:
        """Whether an upload is overdue."""
        seconds = int(self._abandoned_after.total_seconds())
        return text(
            "EXISTS (SELECT FROM uploads WHERE abort_at <= now() OR (execution_id IS NULL"
            f" AND created_at < now() - interval '{seconds} seconds'))"
        )

    async def run(self) -> int:
        """Abort a batch."""
        now = self._clock.now()
        async with self._db.read() as session:
            overdue = await UploadStore(session).overdue(now, now - self._abandoned_after, _BATCH)
        aborted = 0
        for upload in overdue:
            try:
                store = await self._stores.open(upload.store_id)
                if upload.upload_id is not None:
                    await store.abort_multipart(MultipartUpload(key=upload.key, upload_id=upload.upload_id))
                await store.delete(upload.key)
            except SlipwayError as error:
                # A store that is away must not hold up what lies in others.
                _LOG.warning("upload_not_aborted", upload=str(upload.id), error=error.message)
                continue
            async with self._db.transaction() as session:
                await UploadStore(session).finish([upload.id])
            aborted += 1
        return aborted


class SweepStores:
    """Removes from each object store what no row knows of: what a killed process left half written or half sent.

    Each store is leased for its sweep, so that one gateway does it.
    """

    name = "data.sweep_stores"
    due: TextClause | None = None
    channel: str | None = None

    def __init__(
        self, db: Database, stores: Stores, clock: Clock, *, abandoned_after: timedelta, every: timedelta
    ) -> None:
        self._db = db
        self._stores = stores
        self._clock = clock
        self._abandoned_after = abandoned_after
        self._every = every
        self.interval = every.total_seconds()

    async def run(self) -> int:
        """Sweep the stores whose turn it is; how many."""
        async with self._db.transaction() as session:
            lease = await SweepStore(session).take(self._every, _SWEEP_SECONDS)
        for sweep_id in lease.ids:
            store_id = None if sweep_id == BUILT_IN_STORE_ID else sweep_id
            try:
                store = await self._stores.open(store_id)
                removed = await store.sweep(self._abandoned_after) + await self._abort(store, store_id)
            except SlipwayError as error:
                # The next store's turn must not wait for this one.
                _LOG.warning("store_not_swept", store=str(sweep_id), error=error.message)
            else:
                _LOG.info("store_swept", store=str(sweep_id), removed=removed)
            async with self._db.transaction() as session:
                await SweepStore(session).done(sweep_id, lease.token)
        return len(lease.ids)

    async def _abort(self, store: ObjectStore, store_id: UUID | None) -> int:
        before = self._clock.now() - self._abandoned_after
        old = [one.upload async for one in store.list_multipart() if one.touched_at < before]
        old = [upload for upload in old if is_slipway_key(upload.key)]
        if not old:
            return 0
        # Asked after the list was made: an upload that is not in it is not known to be wanted by now.
        async with self._db.read() as session:
            wanted = await UploadStore(session).in_parts(store_id)
        abandoned = [upload for upload in old if upload.upload_id not in wanted]
        for upload in abandoned:
            await store.abort_multipart(upload)
        return len(abandoned)
