"""Loops of the code feature."""

from sqlalchemy import TextClause, text

from slipway_gateway.code.snapshots import ARCHIVE_CHANNEL, SnapshotService


class ArchiveLoop:
    """Archives commits that a run waits for, one at a time."""

    name = "archives"
    channel = ARCHIVE_CHANNEL

    def __init__(self, snapshots: SnapshotService) -> None:
        self._snapshots = snapshots

    @property
    def due(self) -> TextClause:
        """True while an archive is wanted that nobody is making."""
        return text(
            "EXISTS (SELECT FROM commits WHERE archive_wanted_at IS NOT NULL"
            " AND (leased_until IS NULL OR leased_until < now()))"
        )

    async def run(self) -> int:
        """Make one archive."""
        return await self._snapshots.archive_wanted()
