"""Tidies up now and then."""

from slipway_builder.upkeep.service import BUSY, UpkeepService
from slipway_builder.upkeep.store import UpkeepStore
from slipway_db import Database
from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger

_log = get_logger()


class LeftOversLoop:
    """Takes away what builders left that were killed: first when this one starts, then in its rhythm."""

    name = "left_overs"
    due = None
    channel = None

    def __init__(self, upkeep: UpkeepService, seconds: float) -> None:
        self._upkeep = upkeep
        self.interval = seconds

    async def run(self) -> int:
        """Do it."""
        await self._upkeep.sweep()
        return 0


class CleanUpLoop:
    """Deletes images that nothing refers to, target by target; one that is being built for waits for its turn."""

    name = "clean_ups"
    due = None
    channel = None

    def __init__(self, db: Database, upkeep: UpkeepService, seconds: float) -> None:
        self._db = db
        self._upkeep = upkeep
        self._seconds = seconds
        self.interval = min(60.0, seconds)

    async def run(self) -> int:
        """Clean up what is due."""
        async with self._db.read() as session:
            due = await UpkeepStore(session).due()
        for target_id in due:
            try:
                await self._upkeep.clean_up(target_id, dry_run=False)
            except SlipwayError as error:
                if error.code == BUSY:
                    continue
                _log.warning("clean_up_failed", target_id=str(target_id), error=error.message)
            async with self._db.transaction() as session:
                await UpkeepStore(session).next_in(target_id, self._seconds)
        return 0
