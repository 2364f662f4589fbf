"""Committing metadata records of many attempts in one transaction (group commit)."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from slipway_db.database import Database
from slipway_kit.errors import Invalid, SlipwayError, Unavailable
from slipway_kit.logging import get_logger
from slipway_logs.frames import Frame
from slipway_logs.metadata.store import Addition, MetadataStore, Record
from slipway_logs.metrics import LogsMetrics
from slipway_logs.sources import LogSource

_log = get_logger()
_decoder = msgspec.json.Decoder(list[tuple[int, dict[str, Any]]])
_COMMIT_SECONDS = 30.0
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
"""The escape of NUL in JSON text: its backslash is not itself escaped."""

_REMEMBERED = 20_000


@dataclass(slots=True)
class _Pending:
    source: LogSource
    first: int
    records: Sequence[Record]
    done: asyncio.Future[int]


class MetadataWriter:
    """Takes what has gathered while the last batch was committed, and commits it as the next batch."""

    def __init__(self, db: Database, metrics: LogsMetrics) -> None:
        self._db = db
        self._metrics = metrics
        self._stopped = False
        self._waiting: list[_Pending] = []
        self._wake = asyncio.Event()
        # A count that another replica has moved on is only too low: the worker then sends again what is skipped.
        self._counts: OrderedDict[UUID, int] = OrderedDict()

    async def write(self, source: LogSource, frames: Sequence[Frame]) -> int:
        """Commit the records of these frames; answers the number of the next record wanted.

        Records that are there already are skipped; records that leave a gap are not taken.
        """
        if not frames:
            return await self._known(source.attempt_id)
        records: list[Record] = []
        first = frames[0].header.first
        for frame in frames:
            if frame.header.first != first + len(records):
                raise Invalid("Metadata frames of one request must follow each other.", code="bad_frame")
            records += _decode(frame)
        if self._stopped:
            raise Unavailable("The service is stopping; send the metadata again.")
        pending = _Pending(source, first, records, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._wake.set()
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                return await pending.done
        except TimeoutError:
            raise Unavailable("The database did not take the metadata in time; send it again.") from None

    async def run(self) -> None:
        """Commit batches until cancelled; then who waits, and who comes later, is told to try again."""
        self._stopped = False
        batch: list[_Pending] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                batch, self._waiting = self._waiting, []
                if batch:
                    await self._commit_or_split(batch)
        finally:
            self._stopped = True
            for pending in [*batch, *self._waiting]:
                _fail(pending, Unavailable("The service is stopping; send the metadata again."))
            self._waiting = []

    async def _commit_or_split(self, batch: Sequence[_Pending]) -> None:
        try:
            answers = await self._commit(batch)
        except Exception as error:  # noqa: BLE001 - whoever waits gets the error, the writer goes on
            if len(batch) > 1:
                # One attempt's records must not fail those of others.
                for pending in batch:
                    await self._commit_or_split([pending])
                return
            _log.warning("metadata_commit_failed", error=str(error))
            _fail(batch[0], error if isinstance(error, SlipwayError) else Unavailable("Metadata could not be stored."))
            return
        for pending, answer in zip(batch, answers, strict=True):
            self._remember(pending.source.attempt_id, answer)
            if not pending.done.done():
                pending.done.set_result(answer)

    async def _commit(self, batch: Sequence[_Pending]) -> list[int]:
        attempts = {pending.source.attempt_id for pending in batch}
        async with self._db.transaction() as session:
            store = MetadataStore(session)
            counts = dict.fromkeys(attempts, 0) | await store.lock_and_count(list(attempts))
            merged: dict[UUID, Addition] = {}
            for pending in batch:
                attempt = pending.source.attempt_id
                new = pending.records[max(counts[attempt] - pending.first, 0) :]
                if pending.first > counts[attempt] or not new:
                    continue
                before = merged.get(attempt)
                first = before.first if before else counts[attempt]
                records = [*(before.records if before else ()), *new]
                latest = dict(before.latest) if before else {}
                for _, values in new:
                    latest.update(values)
                merged[attempt] = Addition(pending.source, first, records, latest)
                counts[attempt] += len(new)
            if merged:
                await store.add(list(merged.values()))
        self._metrics.committed(sum(len(addition.records) for addition in merged.values()))
        return [counts[pending.source.attempt_id] for pending in batch]

    async def _known(self, attempt_id: UUID) -> int:
        count = self._counts.get(attempt_id)
        if count is None:
            async with self._db.read() as session:
                count = await MetadataStore(session).count(attempt_id)
            self._remember(attempt_id, count)
        return count

    def _remember(self, attempt_id: UUID, count: int) -> None:
        self._counts[attempt_id] = count
        self._counts.move_to_end(attempt_id)
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)


def _decode(frame: Frame) -> list[Record]:
    try:
        # Postgres' JSON cannot hold the character NUL.
        records = _decoder.decode(
            _NUL.sub(rb"\1\\ufffd", frame.payload) if b"u0000" in frame.payload else frame.payload
        )
    except RecursionError:
        raise Invalid("A metadata record is nested too deeply.", code="bad_frame") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"A metadata frame is not a list of [time, object]: {error}.", code="bad_frame") from None
    if len(records) != frame.header.lines:
        raise Invalid("A metadata frame does not hold the number of records that its header says.", code="bad_frame")
    return records


def _fail(pending: _Pending, error: SlipwayError) -> None:
    if not pending.done.done():
        pending.done.set_exception(error)
