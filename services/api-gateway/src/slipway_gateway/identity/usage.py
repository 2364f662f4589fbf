"""When tokens were last used: collected in memory and written in batches, for no request waits for it."""

import asyncio
from datetime import datetime
from uuid import UUID

from slipway_db.database import Database
from slipway_gateway.identity.store import IdentityStore

WRITE_EVERY_SECONDS = 10.0


class TokenUsage:
    """Remembers the newest use of each token until it is written."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._used: dict[UUID, datetime] = {}

    def note(self, token_id: UUID, at: datetime) -> None:
        """A token was used now."""
        self._used[token_id] = at

    async def run(self) -> None:
        """Write what was noted, again and again."""
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what was noted. If that fails the uses are lost: they are a convenience, not a record."""
        used, self._used = self._used, {}
        if used:
            async with self._db.transaction() as session:
                await IdentityStore(session).touch_tokens(used)
