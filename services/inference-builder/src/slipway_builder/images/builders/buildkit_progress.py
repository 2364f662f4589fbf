"""Reads BuildKit's plain progress: which lines the command wrote, and how it ended."""

import re
from collections import deque
from typing import Final

from slipway_builder.images.protocol import BuildLog

_COMMANDS: Final = re.compile(r"#\d+ \d+\.\d+ ?(?P<text>.*)")
_FAILED: Final = re.compile(r"(?i:error): .*did not complete successfully: exit code: (?P<code>\d+)")
_UNDER_WAY: Final = re.compile(r"#\d+ sha256:\S+ \S+ / \S+ [\d.]+s")
"""Said many times for each layer that is pulled; its last line ends in `done`."""
_SUMMARY: Final = "------"
"""Before the end of a build that failed BuildKit says again what it said last."""
_LAST_LINES: Final = 12


class Progress:
    """Takes the lines of a build, and gives the command's to one listener and BuildKit's own to another."""

    def __init__(self, command: BuildLog, steps: BuildLog) -> None:
        self._command = command
        self._steps = steps
        self._repeats = False
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self.exit_code: int | None = None
        """The command's, where it failed."""

    def __call__(self, line: str, /) -> None:
        """Read a line."""
        if line.strip():
            self._last.append(line)
        if found := _COMMANDS.fullmatch(line):
            self._command(found["text"])
        elif found := _FAILED.match(line):
            self.exit_code = int(found["code"])
        elif line == _SUMMARY:
            self._repeats = True
        elif line.strip() and not self._repeats and not _UNDER_WAY.fullmatch(line):
            self._steps(line)

    def last_words(self) -> str:
        """The last lines, whoever wrote them."""
        return "\n".join(self._last)
