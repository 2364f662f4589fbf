"""Metadata records in the output of a run (contract 3.10)."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

MAX_METADATA_LINE_BYTES: Final = 1024 * 1024
"""A longer line is a log line only."""


class MetadataRecord(NamedTuple):
    """One JSON object that the run printed; `values` has `_time` in it (ISO 8601, UTC)."""

    time: datetime
    values: dict[str, Any]


@dataclass
class MetadataParser:
    r"""Finds JSON objects that stand alone on a line of stdout. Feed it the stream's bytes in order.

    `NaN` and the infinities, which JSON does not know but Python prints, become the strings of that name.
    """

    _pending: list[bytes] = field(default_factory=list)
    _pending_bytes: int = 0
    _too_long: bool = False

    def feed(self, data: bytes, time_us: int) -> list[MetadataRecord]:
        """Take more bytes, printed at `time_us` (µs since 1970, UTC), and give back the objects that ended."""
        records: list[MetadataRecord] = []
        head, newline, rest = data.partition(b"\n")
        if not newline:
            self._keep(head)
            return records
        self._keep(head)
        first = b"" if self._too_long else b"".join(self._pending)
        self._pending, self._pending_bytes, self._too_long = [], 0, False
        self._parse(first, time_us, records)
        end = rest.rfind(b"\n") + 1
        if b"}" in rest:
            for line in rest[:end].split(b"\n"):
                self._parse(line, time_us, records)
        self._keep(rest[end:])
        return records

    def _keep(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_METADATA_LINE_BYTES:
            self._too_long = True
            self._pending = []
        elif data:
            self._pending.append(data)

    @staticmethod
    def _parse(line: bytes, time_us: int, records: list[MetadataRecord]) -> None:
        line = line.strip()
        if not (line.startswith(b"{") and line.endswith(b"}")):
            return
        try:
            values = json.loads(line, parse_constant=str)
        except (ValueError, RecursionError):
            return
        # Exact for any µs of this century, unlike a division by 1e6.
        time = datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000)
        values["_time"] = time.isoformat()
        records.append(MetadataRecord(time, values))
