"""Follows what the replicas of one endpoint write."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, Self

from slipway_builder.materials import MaterialsClient
from slipway_builder.observe.log_relay import LogRelayClient
from slipway_builder.observe.log_store import FollowedEndpoint, LogStore
from slipway_builder.observe.replica_log import Mark, ReplicaLog, end_frame
from slipway_builder.targets.protocol import ReplicaLine, Target
from slipway_db import Database
from slipway_kit.errors import SlipwayError, Unavailable
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait, run_together
from slipway_runtime.redaction import Redactor

_log = get_logger()

_AGAIN_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.25
_MARK_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 5.0
_BATCH_BYTES: Final = 2 * 1024**2
_MOST_PENDING_BYTES: Final = 4 * 1024**2
_LINES_AT_ONCE: Final = 50
_BEGIN: Final = datetime(1970, 1, 2, tzinfo=UTC)


class _LinesLost(Exception):
    """The log service lacks lines that it had taken: its tail was lost before they were in the store."""


class EndpointFollower:
    """Reads lines from the target, masks secrets and sends the lines on."""

    def __init__(
        self,
        db: Database,
        target: Target,
        materials: MaterialsClient,
        relay: LogRelayClient,
        endpoint: FollowedEndpoint,
    ) -> None:
        self._endpoint = endpoint
        self._db = db
        self._target = target
        self._materials = materials
        self._relay = relay
        self._task: asyncio.Task[None] | None = None
        self._logs: dict[str, ReplicaLog] = {}
        self._marks: dict[tuple[str, bool], Mark] = {}
        """As they are in the database."""
        self._moved: dict[tuple[str, bool], Mark] = {}
        """As they are to be there."""
        self._redactor = Redactor(())
        self._room = asyncio.Event()
        self._lines = 0

    def start(self) -> Self:
        """Begin, beside the caller."""
        self._task = asyncio.create_task(self._run(), name=f"log of {self._endpoint.id}")
        return self

    async def stop(self) -> None:
        """End, so that another one can go on here."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        try:
            await self._write_marks()
        except Exception as error:  # noqa: BLE001 - older marks serve as well
            _log.warning("log_marks_not_written", endpoint_id=str(self._endpoint.id), error=str(error))

    async def finish(self) -> None:
        """End for good: no replica is left."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        try:
            for replica, log in self._logs.items():
                await self._send_pending(replica, log)
                taken = self._moved.get((replica, False))
                if taken is not None and log.undurable() is not None:
                    await self._relay.send(self._endpoint.id, replica, taken.day, end_frame(taken.lines))
        except (SlipwayError, _LinesLost) as error:
            _log.warning("log_not_finished", endpoint_id=str(self._endpoint.id), error=str(error))
        await self.stop()

    async def _run(self) -> None:
        while True:
            try:
                async with self._db.read() as session:
                    self._marks = await LogStore(session).marks(self._endpoint.id)
                self._logs, self._moved = {}, {}
                self._redactor = Redactor(await self._secrets())
                await run_together((self._read(), self._send()))
            except _LinesLost:
                _log.warning("log_lines_sent_again", endpoint_id=str(self._endpoint.id))
            except Exception as error:  # noqa: BLE001 - whatever it was, nothing is lost: it begins anew at the marks
                _log.warning("log_follower_failed", endpoint_id=str(self._endpoint.id), error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _read(self) -> None:
        while True:
            known = {replica: mark.known_until for (replica, durable), mark in self._marks.items() if durable}
            for replica, log in self._logs.items():
                log.told_again()
                if log.known_until is not None:
                    known[replica] = log.known_until
            try:
                lines = self._target.logs(self._endpoint.id, since=_BEGIN, known=known)
                async with aclosing(lines):
                    async for line in lines:
                        await self._take(line)
            except Unavailable as error:
                _log.info("replicas_not_heard", endpoint_id=str(self._endpoint.id), error=error.message)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _take(self, line: ReplicaLine) -> None:
        log = self._logs.get(line.replica)
        if log is None:
            log = self._logs[line.replica] = ReplicaLog(await self._mark_of(line.replica))
        log.take(line, self._redactor)
        self._lines += 1
        if self._lines % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        while log.pending_bytes > _MOST_PENDING_BYTES:
            self._room.clear()
            await self._room.wait()

    async def _mark_of(self, replica: str) -> Mark | None:
        """Where to go on: where the log service stands, unless it has lost what is not in the store."""
        taken = self._marks.get((replica, False))
        if taken is None:
            return None
        answer = await self._relay.send(self._endpoint.id, replica, taken.day)
        if answer.next >= taken.lines and answer.metadata_next >= taken.records:
            return taken
        return self._marks.get((replica, True))

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        asked_at = marked_at = loop.time()
        while True:
            await asyncio.sleep(_GATHER_SECONDS)
            try:
                for replica, log in list(self._logs.items()):
                    await self._send_pending(replica, log)
                if loop.time() - asked_at > _ASK_SECONDS:
                    asked_at = loop.time()
                    await self._ask_what_is_durable()
            except Unavailable as error:
                _log.info("log_waits", endpoint_id=str(self._endpoint.id), error=error.message)
                await asyncio.sleep(_AGAIN_SECONDS)
            if loop.time() - marked_at > _MARK_SECONDS:
                marked_at = loop.time()
                await self._write_marks()
            self._room.set()

    async def _send_pending(self, replica: str, log: ReplicaLog) -> None:
        while (batch := log.next_batch(_BATCH_BYTES)) is not None:
            answer = await self._relay.send(self._endpoint.id, replica, batch.day, batch.frames)
            if not log.answered(batch, answer):
                raise _LinesLost
            self._moved[replica, False] = batch.end
            if (mark := log.durable(batch.day, answer.durable)) is not None:
                self._moved[replica, True] = mark

    async def _ask_what_is_durable(self) -> None:
        for replica, log in list(self._logs.items()):
            waiting = log.undurable()
            if waiting is None:
                continue
            answer = await self._relay.send(self._endpoint.id, replica, waiting.day)
            if answer.next < waiting.lines:
                raise _LinesLost
            if (mark := log.durable(waiting.day, answer.durable)) is not None:
                self._moved[replica, True] = mark

    async def _write_marks(self) -> None:
        moved = {key: mark for key, mark in self._moved.items() if self._marks.get(key) != mark}
        if moved:
            async with self._db.transaction() as session:
                await LogStore(session).mark(self._endpoint.id, moved)
            self._marks |= moved

    async def _secrets(self) -> list[str]:
        """The values that the replicas got; a version names each secret with its version, so they stay the same."""
        variables = self._endpoint.environment_variables
        secret = {name: one for name, one in variables.items() if one.get("secret") is not None}
        return list((await self._materials.environment(self._endpoint.project_id, secret)).values())
