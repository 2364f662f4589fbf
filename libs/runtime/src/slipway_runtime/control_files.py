"""Writes what a run starts from: entry script, command file, variables."""

import os
from collections.abc import Mapping
from pathlib import Path

from slipway_runtime.command import EntryPaths, command_file, entry_script, is_script
from slipway_runtime.environment import shell_exports
from slipway_runtime.layout import AttemptLayout


def write_control_files(
    layout: AttemptLayout, command: str, environment: Mapping[str, str], entry: EntryPaths
) -> tuple[str, ...]:
    """Write the files; gives back a notice for each variable that no shell can hold."""
    text, refused = shell_exports(environment)
    _write(layout.control / "entry.sh", entry_script(entry, script=is_script(command)), 0o755)
    _write(layout.control / "command", command_file(command), 0o755)
    _write(layout.state / "env", text, 0o644)
    return tuple(f"Environment variable {name!r} is not set: its name or value fits no shell." for name in refused)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
    path.chmod(mode)
