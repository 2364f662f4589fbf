"""Routers ask here for their tables and say what they have; movers of aliases wait here until routers have it."""

import asyncio
import hashlib
from collections.abc import Sequence
from uuid import UUID

from slipway_builder.channels import ROUTERS, ROUTES
from slipway_builder.keys.store import KeyStore
from slipway_builder.observe.store import CountStore
from slipway_builder.routing.store import Published, RoutingStore
from slipway_builder.targets.store import TargetStore
from slipway_db import Database, Doorbell
from slipway_kit.clock import Clock
from slipway_kit.errors import Unauthorized
from slipway_schemas.inference.routing import ROUTING_VERSION, RouterSync
from slipway_schemas.inference.versions import AliasMoved

HOLD_SECONDS = 5.0
ALIVE_SECONDS = 8.0
"""A router that was not heard of for so long is not waited for: it asks again at least every 5 s."""
CONFIRM_SECONDS = 3.0


class RoutingDesk:
    """Holds no state: any replica of the builder answers any router."""

    def __init__(self, db: Database, doorbell: Doorbell, clock: Clock) -> None:
        self._db = db
        self._doorbell = doorbell
        self._clock = clock

    async def admit(self, token: str) -> None:
        """Raise `Unauthorized` for a token that is not the one of any target's routers."""
        async with self._db.statements() as session:
            if not await TargetStore(session).knows_router_token(hashlib.sha256(token.encode()).hexdigest()):
                raise Unauthorized("This token is not the one of any target's routers.")

    async def sync(self, token: str, request: RouterSync, stopping: asyncio.Event) -> bytes:
        """Answer at once when the router is behind, else when there is something new or the wait is over.

        The answer is `TableChanges` in JSON: its parts come from the database as such.

        Raises `Unauthorized` for a token that is not the target's.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + min(request.wait_seconds, HOLD_SECONDS)
        rung = asyncio.Event()
        unsubscribe = self._doorbell.subscribe(ROUTES, rung.set)
        try:
            await self._note(token, request)
            while True:
                rung.clear()
                changes = await self._changes(request)
                left = until - loop.time()
                if changes.revision != request.applied_revision or left <= 0 or stopping.is_set():
                    return _document(changes)
                waiting = [asyncio.create_task(rung.wait()), asyncio.create_task(stopping.wait())]
                try:
                    await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for one in waiting:
                        one.cancel()
        finally:
            unsubscribe()

    async def confirm(self, target_id: UUID, moved: AliasMoved) -> AliasMoved:
        """Wait until every router of the target has the move, at most 3 s."""
        began = asyncio.get_running_loop().time()
        done, behind = await self.applied(target_id, moved.revision)
        return _with_confirmation(moved, done, behind, asyncio.get_running_loop().time() - began)

    async def applied(self, target_id: UUID, revision: int) -> tuple[list[str], list[str]]:
        """Wait until every router of the target has a revision, at most 3 s: those that have it, and the others."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        rung = asyncio.Event()
        unsubscribe = self._doorbell.subscribe(ROUTERS, rung.set)
        try:
            while True:
                rung.clear()
                async with self._db.statements() as session:
                    done, behind = await RoutingStore(session).confirmations(target_id, revision, ALIVE_SECONDS)
                left = CONFIRM_SECONDS - (loop.time() - began)
                if not behind or left <= 0:
                    return done, behind
                try:
                    async with asyncio.timeout(min(left, 0.5)):
                        await rung.wait()
                except TimeoutError:
                    continue
        finally:
            unsubscribe()

    async def _note(self, token: str, request: RouterSync) -> None:
        token_hash = hashlib.sha256(token.encode()).hexdigest()
        async with self._db.statements() as session:
            store = RoutingStore(session)
            if not await store.seen(request.target_id, token_hash, request.router_id, request.applied_revision):
                raise Unauthorized("This token is not the one of the target's routers.")
        if not (request.counts or request.key_uses):
            return
        async with self._db.transaction() as session:
            await CountStore(session).add(request.target_id, request.counts, self._clock.now())
            await KeyStore(session).used(request.key_uses)

    async def _changes(self, request: RouterSync) -> Published:
        async with self._db.statements() as session:
            changes = await RoutingStore(session).changes(request.target_id, request.applied_revision)
        if changes is None:
            raise Unauthorized("The target of this router was deleted.")
        return changes


def _document(changes: Published) -> bytes:
    complete = "true" if changes.complete else "false"
    return (
        f'{{"v":{ROUTING_VERSION},"revision":{changes.revision},"complete":{complete},'
        f'"routes":{changes.routes},"keys":{changes.keys}}}'
    ).encode()


def _with_confirmation(moved: AliasMoved, done: Sequence[str], behind: Sequence[str], seconds: float) -> AliasMoved:
    return moved.model_copy(
        update={
            "confirmed_routers": len(done),
            "unconfirmed_routers": tuple(behind),
            "confirmed_ms": round(seconds * 1000, 3),
        }
    )
