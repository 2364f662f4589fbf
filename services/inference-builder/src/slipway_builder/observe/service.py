"""What targets tell of endpoints, asked when a person looks."""

import asyncio
import contextlib
from datetime import UTC, datetime
from uuid import UUID

from slipway_builder.endpoints.store import EndpointStore
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.store import TargetStore
from slipway_db import Database
from slipway_kit.errors import NotFound
from slipway_schemas.inference.versions import EndpointLine, EndpointLines

_COLLECT_SECONDS = 1.5
_IDLE_SECONDS = 0.3


class ObserveService:
    """Opens units of work of its own, because it calls targets."""

    def __init__(self, db: Database, pool: TargetPool) -> None:
        self._db = db
        self._pool = pool

    async def recent_lines(self, endpoint_id: UUID, limit: int) -> EndpointLines:
        """The newest lines that the replicas of an endpoint wrote. Raises `NotFound`, `Unavailable`."""
        async with self._db.read() as session:
            target_id = await EndpointStore(session).target_of(endpoint_id)
            record = await TargetStore(session).get(target_id) if target_id is not None else None
        if record is None:
            raise NotFound(f"There is no endpoint {endpoint_id}.")
        lines: list[EndpointLine] = []
        source = self._pool.open(record).logs(endpoint_id, since=datetime.fromtimestamp(0, UTC))
        with contextlib.suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(_COLLECT_SECONDS):
                while True:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        line = await anext(source)
                    text = line.text.decode(errors="replace").rstrip("\n")
                    lines = [*lines, EndpointLine(at=line.at, replica=line.replica, text=text)][-limit:]
        return EndpointLines(lines=tuple(sorted(lines, key=lambda one: one.at)))
