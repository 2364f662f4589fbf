"""Follows what the replicas of all endpoints write, and hands it to the log service.

One builder follows a target at a time, by lease. Two that follow it for a moment do no harm: both number the lines
alike, and the log service takes each number once.
"""

import asyncio
from typing import Final
from uuid import UUID

from slipway_builder.materials import MaterialsClient
from slipway_builder.observe.follower import EndpointFollower
from slipway_builder.observe.log_relay import LogRelayClient
from slipway_builder.observe.log_store import LogStore
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.store import TargetStore
from slipway_db import Database
from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait

_log = get_logger()

_LEASE_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 2.0
_LINGER_SECONDS: Final = 45.0
"""The replicas of an endpoint that serves no more have this long to say their last words."""


class LogFollowing:
    """Follows every target whose lease it gets."""

    def __init__(self, db: Database, pool: TargetPool, materials: MaterialsClient, relay: LogRelayClient) -> None:
        self._db = db
        self._pool = pool
        self._materials = materials
        self._relay = relay

    async def run(self) -> None:
        """Follow until cancelled."""
        following: dict[UUID, asyncio.Task[None]] = {}
        try:
            while True:
                async with self._db.transaction() as session:
                    token, targets = await LogStore(session).lease(_LEASE_SECONDS)
                for target_id in targets:
                    if target_id in following:
                        await cancel_and_wait(following[target_id])
                    following[target_id] = asyncio.create_task(self._follow(target_id, token))
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in following.values():
                task.cancel()
            await asyncio.gather(*following.values(), return_exceptions=True)

    async def _follow(self, target_id: UUID, token: UUID) -> None:
        followers: dict[UUID, EndpointFollower] = {}
        ending: set[asyncio.Task[None]] = set()
        try:
            while True:
                async with self._db.transaction() as session:
                    store = LogStore(session)
                    if not await store.renew(target_id, token, _LEASE_SECONDS):
                        return
                    record = await TargetStore(session).get(target_id)
                    wanted = {one.id: one for one in await store.followed(target_id, _LINGER_SECONDS)} if record else {}
                for endpoint_id in followers.keys() - wanted.keys():
                    # Beside this loop: the log service may let it wait for longer than the lease.
                    end = asyncio.create_task(followers.pop(endpoint_id).finish())
                    ending.add(end)
                    end.add_done_callback(ending.discard)
                for endpoint_id, one in wanted.items():
                    if endpoint_id not in followers and record is not None:
                        target = self._pool.open(record)
                        follower = EndpointFollower(self._db, target, self._materials, self._relay, one)
                        followers[endpoint_id] = follower.start()
                await asyncio.sleep(_LOOK_SECONDS)
        except SlipwayError as error:
            _log.warning("logs_not_followed", target_id=str(target_id), error=error.message)
        finally:
            for end in list(ending):
                await cancel_and_wait(end)
            await asyncio.gather(*(one.stop() for one in followers.values()))
            async with self._db.transaction() as session:
                await LogStore(session).give_back(target_id, token)
