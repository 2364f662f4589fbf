"""All tables of the service on one metadata, for migrations and their checks."""

from slipway_db.outbox import consumer_tables
from slipway_logs.archive.tables import SegmentRow, StreamRow
from slipway_logs.metadata.tables import MetadataBlockRow, MetadataLatestRow
from slipway_logs.orm import metadata
from slipway_logs.usage.tables import UsageBlockRow

CURSORS, DEAD_LETTER = consumer_tables(metadata)

__all__ = ["MetadataBlockRow", "MetadataLatestRow", "SegmentRow", "StreamRow", "UsageBlockRow", "metadata"]
