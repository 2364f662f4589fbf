"""The loop that makes lines durable."""

from dataclasses import dataclass

from slipway_logs.archive.service import ArchiveService


@dataclass
class ArchiveLoop:
    """Flushes what is due; runs on its own interval, since what is due is known to Valkey, not to Postgres."""

    service: ArchiveService
    name: str = "archive"
    due: None = None
    channel: None = None
    interval: float = 0.5

    async def run(self) -> int:
        """Write what is due; returns how many segments were written."""
        return await self.service.flush_due()
