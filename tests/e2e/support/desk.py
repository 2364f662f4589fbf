"""A user's desk: the unmodified `vh` with a configuration of its own, standing in a checkout of the sample project."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_testing.vh import VhRunner

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Answer:
    """What a `vh` command printed, without colours."""

    code: int
    out: str
    err: str

    @property
    def both(self) -> str:
        """stdout, then stderr."""
        return self.out + self.err


@dataclass(frozen=True)
class Desk:
    """Runs `vh` in `folder`."""

    runner: VhRunner
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        """vh's own configuration file; empty when there is none."""
        file = self.runner.home / "config" / "config.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def vh(
        self, *args: str, code: int | None = 0, env: Mapping[str, str] | None = None, timeout: float = 90.0
    ) -> Answer:
        """Run a command; its exit code must be `code` unless that is None."""
        done = self.runner.run(*args, cwd=self.folder, env={"COLUMNS": "250", **(env or {})}, timeout=timeout)
        answer = Answer(done.returncode, ANSI.sub("", done.stdout), ANSI.sub("", done.stderr))
        assert "Traceback" not in answer.both, f"vh {' '.join(args)}\n{answer.both}"
        assert code is None or answer.code == code, f"vh {' '.join(args)} ended with {answer.code}:\n{answer.both}"
        return answer

    def vh_for(self, seconds: float, *args: str) -> Answer:
        """Run a command that never ends by itself, and end it after `seconds`."""
        try:
            done = self.runner.run(*args, cwd=self.folder, timeout=seconds)
        except subprocess.TimeoutExpired as expired:
            return Answer(124, _text(expired.stdout), _text(expired.stderr))
        raise AssertionError(f"vh {' '.join(args)} ended by itself with {done.returncode}:\n{done.stdout}{done.stderr}")

    def json(self, *args: str) -> Any:
        """Run a command with JSON output."""
        return json.loads(self.vh("--output-format", "json", *args).out)

    def run(self, step: str, *args: str, **options: Any) -> int:
        """`vh exec run`; gives the counter."""
        answer = self.vh("exec", "run", step, *args, **options)
        found = re.search(r"Execution #(\d+) created\. See (\S+)", answer.both)
        assert found, answer.both
        return int(found.group(1))

    def elsewhere(self, folder: Path) -> "Desk":
        """The same user in another folder."""
        return Desk(self.runner, folder)

    def copy(self, home: Path) -> "Desk":
        """Another desk that knows what this one knows; changes stay there."""
        shutil.copytree(self.runner.home, home, dirs_exist_ok=True)
        return Desk(VhRunner(self.runner.venv, home), self.folder)


def _text(output: Any) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return ANSI.sub("", text)


def in_table(key: str, value: str) -> str:
    """Pattern of a row in a table of vh, which stands upright where there is room and lies down where not."""
    return rf"{re.escape(key)}\s*(?:\n\s*value\s*\|)?\s*{re.escape(value)}"
