"""Committing usage samples of many attempts in one transaction (group commit)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from slipway_db.database import Database
from slipway_kit.errors import Unavailable
from slipway_kit.logging import get_logger
from slipway_logs.usage.store import UsageStore
from slipway_schemas.usage import UsageSample

_log = get_logger()
_GATHER_SECONDS = 0.25
_COMMIT_SECONDS = 8.0


@dataclass(slots=True)
class _Pending:
    attempt_id: UUID
    samples: Sequence[UsageSample]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class UsageWriter:
    """Gathers what comes within a quarter of a second, and commits it together."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[_Pending] = []
        self._wake = asyncio.Event()

    async def write(self, attempt_id: UUID, samples: Sequence[UsageSample]) -> None:
        """Store samples; raises `Unavailable` when that does not work now."""
        pending = _Pending(attempt_id, samples)
        self._waiting.append(pending)
        self._wake.set()
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                await pending.done
        except TimeoutError:
            raise Unavailable("The database did not take the samples in time; send them again.") from None

    async def run(self) -> None:
        """Commit batches until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._wake.clear()
            # Of an attempt that is sent twice at once the second waits for the next round.
            batch: dict[UUID, _Pending] = {}
            rest: list[_Pending] = []
            for pending in self._waiting:
                if pending.attempt_id in batch:
                    rest.append(pending)
                else:
                    batch[pending.attempt_id] = pending
            self._waiting = rest
            if rest:
                self._wake.set()
            await self._commit(list(batch.values()))

    async def _commit(self, batch: Sequence[_Pending]) -> None:
        try:
            async with self._db.transaction() as session:
                await UsageStore(session).add([(one.attempt_id, one.samples) for one in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits gets the error, the writer goes on
            _log.warning("usage_commit_failed", error=str(error))
            for one in batch:
                if not one.done.done():
                    one.done.set_exception(Unavailable("The samples could not be stored; send them again."))
            return
        for one in batch:
            if not one.done.done():
                one.done.set_result(None)
