"""What log-relay measures, beside what every service does."""

from slipway_kit.metrics import ServiceMetrics


class LogsMetrics:
    """Ingest and archive: `slipway_logs_<noun>_<unit>`."""

    def __init__(self, service: ServiceMetrics) -> None:
        self.service = service
        self._chunks = service.counter("ingested_chunks_total", "Frames that were added to the hot tail.")
        self._lines = service.counter("ingested_lines_total", "Lines that were added to the hot tail.")
        self._bytes = service.counter("ingested_bytes_total", "Bytes of frames that were added to the hot tail.")
        self._records = service.counter("metadata_records_total", "Metadata records that were committed.")
        self.flush_seconds = service.histogram("flush_seconds", "Time of one round that made lines durable.")
        self.undurable_attempts = service.gauge(
            "undurable_attempts", "Attempts with lines that only the hot tail and their worker hold."
        )

    def ingested(self, chunks: int, lines: int, size: int) -> None:
        """Count what one request added."""
        self._chunks.inc(chunks)
        self._lines.inc(lines)
        self._bytes.inc(size)

    def committed(self, records: int) -> None:
        """Count metadata records."""
        self._records.inc(records)
