"""The scripts that a run starts with (contract 3.3, design section 6)."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from shlex import quote
from typing import Final

_TRAPS: Final = "trap 'exit 130' INT\ntrap 'exit 143' TERM\n"


@dataclass(frozen=True)
class EntryPaths:
    """Directories of the entry script as the run sees them."""

    control: PurePosixPath
    pipes: PurePosixPath
    state: PurePosixPath
    repository: PurePosixPath


SANDBOX_ENTRY_ROOT: Final = PurePosixPath("/run/slipway")
"""Where containers and sandboxes have control, pipes and state mounted."""


def command_file(command: str) -> str:
    """The text of the command file. All lines run in one shell; the last one's exit code decides.

    The traps are set in that very shell: after a signal it waits for the program that runs and starts no further one.
    A text with a shebang is left as it is, since it is executed itself.
    """
    text = command if command.endswith("\n") else command + "\n"
    return text if is_script(command) else _TRAPS + text


def is_script(command: str) -> bool:
    """Whether the command names its own interpreter."""
    return command.startswith("#!")


def entry_script(paths: EntryPaths, *, script: bool) -> str:
    """The POSIX shell script that a run begins with; `script` = the command file names its own interpreter.

    Pipes are opened read-write, so that a reader that dies blocks the writer instead of killing it.
    """
    command = quote(str(paths.control / "command"))
    variables = quote(str(paths.state / "env"))
    if script:
        run = f"exec {command}"
    else:
        run = f"if command -v bash >/dev/null 2>&1; then\n    exec bash {command}\nfi\nexec sh {command}"
    return (
        "#!/bin/sh\n"
        f"exec 0</dev/null 1<>{quote(str(paths.pipes / 'stdout'))} 2<>{quote(str(paths.pipes / 'stderr'))}\n"
        f"{_TRAPS}"
        f". {variables}\n"
        f"rm -f {variables}\n"
        f": >{quote(str(paths.state / 'started'))}\n"
        f"cd {quote(str(paths.repository))} || exit 1\n"
        f"{run}\n"
    )
