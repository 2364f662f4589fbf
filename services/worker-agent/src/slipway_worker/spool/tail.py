"""The last lines of a run, kept while its log passes by."""

from collections import deque
from typing import Final

from slipway_schemas.logs import LogStream

TAIL_LINES: Final = 20
_LINE_CHARACTERS: Final = 400
_BLOCK_BYTES: Final = 8 * 1024
_PRINTABLE: Final = str.maketrans({code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if code not in (9, 27)})


class LogTail:
    """Remembers the ends of the last blocks; each block has at least one line, so these hold the last lines."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[LogStream, bytes]] = deque(maxlen=TAIL_LINES)

    def add(self, stream: LogStream, data: bytes) -> None:
        """Redacted lines of one stream have passed."""
        self._blocks.append((stream, data[-_BLOCK_BYTES:]))

    def lines(self) -> list[dict[str, str]]:
        """The last lines, oldest first. Long ones are cut at the front: what went wrong stands at the end."""
        found: list[dict[str, str]] = []
        for stream, data in reversed(self._blocks):
            for line in reversed(data.splitlines()):
                text = line[-4 * _LINE_CHARACTERS :].decode(errors="replace").translate(_PRINTABLE)
                found.append({"stream": stream.label, "text": text[-_LINE_CHARACTERS:]})
                if len(found) == TAIL_LINES:
                    return found[::-1]
        return found[::-1]
