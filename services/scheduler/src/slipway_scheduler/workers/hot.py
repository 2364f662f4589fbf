"""The held sync as a raw ASGI endpoint: it waits without a connection, a transaction or a thread."""

import asyncio
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slipway_db import Database
from slipway_kit.app import HotRoute
from slipway_kit.auth import AttemptSigner, bearer_token, token_hash
from slipway_kit.errors import TooLarge, Unauthorized, invalid_from_validation
from slipway_kit.service import stopping_event
from slipway_kit.tasks import cancel_and_wait
from slipway_scheduler.settings import LeaseSettings
from slipway_scheduler.workers.batching import GroupCommit
from slipway_scheduler.workers.hub import WorkerHub
from slipway_scheduler.workers.store import Worker
from slipway_scheduler.workers.sync import Heard, Said, SyncService, has_news
from slipway_schemas.workers import SyncAnswer, SyncRequest

MAX_BODY_BYTES = 8 * 1024 * 1024
SYNC: Final = HotRoute(
    path="/workers/v1/sync",
    summary="Say what the worker has and what happened; hear what differs.",
    body=SyncRequest,
    answer=SyncAnswer,
    tag="workers",
)


class SyncDesk:
    """Answers syncs: what is said is stored in group commits, what is to be said is read in batches."""

    def __init__(self, db: Database, hub: WorkerHub, signer: AttemptSigner, leases: LeaseSettings) -> None:
        self._db = db
        self._hub = hub
        self._signer = signer
        self._leases = leases
        self._writes: GroupCommit[Said, Heard | Unauthorized] = GroupCommit(
            self._hear, key=lambda said: said.token_hash
        )
        self._reads: GroupCommit[tuple[Worker, SyncRequest], SyncAnswer] = GroupCommit(
            self._answers, key=lambda known: known[0].id
        )

    async def _hear(self, batch: Sequence[Said]) -> list[Heard | Unauthorized]:
        async with self._db.transaction() as session:
            return await SyncService(session, self._signer, self._leases.lease_seconds).hear(batch)

    async def _answers(self, batch: Sequence[tuple[Worker, SyncRequest]]) -> list[SyncAnswer]:
        async with self._db.read() as session:
            answers = await SyncService(session, self._signer, self._leases.lease_seconds).answers(batch)
        return [answers[worker.id] for worker, _ in batch]

    async def sync(self, said: Said, gone: "asyncio.Task[None]") -> SyncAnswer:
        """Store what a worker says; answer at once when there is something to say, else when there is, or in time.

        Raises `Unauthorized`. `gone` ends when nobody waits for the answer any more.
        """
        until = asyncio.get_running_loop().time() + min(said.request.wait_seconds, self._leases.hold_seconds)
        rings = self._hub.rings
        heard = await self._writes.submit(said)
        if isinstance(heard, Unauthorized):
            raise heard
        if has_news(heard.answer):
            return heard.answer
        with self._hub.hold(heard.worker.id) as rung:
            if self._hub.rings != rings:
                rung.set()  # what was committed between the answer and this hold rang for nobody
            while await _rung_before(rung, gone, until):
                rung.clear()
                answer = await self._reads.submit((heard.worker, said.request))
                if has_news(answer):
                    return answer
        return heard.answer


async def _rung_before(rung: asyncio.Event, gone: "asyncio.Task[None]", until: float) -> bool:
    """Wait for the next ring; False when the time is over or nobody waits for the answer."""
    remaining = until - asyncio.get_running_loop().time()
    if remaining <= 0 or gone.done():
        return False
    ring = asyncio.create_task(rung.wait(), name="held sync")
    try:
        await asyncio.wait({ring, gone}, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        return ring.done() and not gone.done()
    finally:
        await cancel_and_wait(ring)


class SyncEndpoint:
    """`POST /workers/v1/sync`."""

    def __init__(self, desk: SyncDesk, pepper: str) -> None:
        self._desk = desk
        self._pepper = pepper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one sync."""
        request = Request(scope, receive)
        hashed = token_hash(bearer_token(request), self._pepper)
        try:
            said = Said(hashed, SyncRequest.model_validate_json(await _body(request)))
        except ValidationError as error:
            raise invalid_from_validation(error.errors(include_url=False)) from error
        gone = asyncio.create_task(_until_gone(receive, stopping_event(request)), name="sync disconnect")
        try:
            answer = await self._desk.sync(said, gone)
        finally:
            await cancel_and_wait(gone)
        await Response(answer.model_dump_json(), media_type="application/json")(scope, receive, send)


async def _body(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > MAX_BODY_BYTES:
            raise TooLarge(f"A sync may have {MAX_BODY_BYTES} bytes at most. Report fewer attempts or facts at once.")
    return bytes(parts)


async def _until_gone(receive: Receive, stopping: asyncio.Event) -> None:
    waits = [asyncio.create_task(_disconnected(receive)), asyncio.create_task(_set(stopping))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _set(event: asyncio.Event) -> None:
    await event.wait()
