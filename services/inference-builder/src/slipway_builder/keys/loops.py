"""Sweeps the keys of test calls."""

from slipway_builder.keys.service import KeyService
from slipway_builder.keys.store import KeyStore
from slipway_db import Database


class HiddenKeysLoop:
    """Ends the keys of test calls whose caller could not, and deletes those that have ended."""

    name = "hidden_keys"
    due = None
    channel = None
    interval = 60.0

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run(self) -> int:
        """Sweep."""
        async with self._db.transaction() as session:
            store, service = KeyStore(session), KeyService(session)
            for key_id in await store.expired_hidden():
                await service.revoke(key_id)
            await store.delete_hidden()
        return 0
