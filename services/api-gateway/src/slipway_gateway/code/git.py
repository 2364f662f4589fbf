"""Runs git in a process of its own, shut off from the machine's settings, with limits on time and output."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from slipway_kit.errors import Unavailable

MAX_OUTPUT_BYTES = 64 * 1024**2
_ERROR_BYTES = 64 * 1024

# Commits of branches that were deleted or rewritten upstream stay, for executions that name them: nothing is pruned.
_GLOBAL_CONFIG = "[core]\n\thooksPath = /dev/null\n[gc]\n\tautoDetach = false\n\tpruneExpire = never\n"
_TRUST_LOCAL = "[safe]\n\tdirectory = *\n"


class GitError(Unavailable):
    """Git ended with an error. The message is what git printed, without its prefixes."""

    code = "git_failed"

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class Git:
    """Starts git commands. `home` holds nothing but our own global configuration."""

    def __init__(self, home: Path, *, trust_local: bool) -> None:
        self._home = home
        self._trust_local = trust_local

    async def run(
        self,
        args: Sequence[str],
        *,
        repository: Path | None = None,
        environment: Mapping[str, str] | None = None,
        config: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        output: IO[bytes] | None = None,
        timeout: float = 60.0,
    ) -> bytes:
        """Run one command and return what it printed, or write that to `output`. Raises `GitError`.

        `config` reaches git through its environment, so that secrets in it are not in the process list.
        """
        command = ["git", *(["--git-dir", str(repository)] if repository is not None else []), *args]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=output if output is not None else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._prepared_home(),
            env=self._environment(environment or {}, config or {}),
            start_new_session=True,
            limit=1024**2,
        )
        try:
            async with asyncio.timeout(timeout):
                answer, errors = await _communicate(process, stdin)
                await process.wait()
        except TimeoutError:
            raise GitError(f"Git did not end within {timeout:g} s and was stopped.") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            text = errors.decode(errors="replace").strip()
            raise GitError(_readable(text) or f"git {args[0]} ended with code {process.returncode}.", text)
        return answer

    def _prepared_home(self) -> Path:
        if not self._home.is_dir():
            self._home.mkdir(parents=True, mode=0o700)
        settings = self._home / "gitconfig"
        wanted = _GLOBAL_CONFIG + (_TRUST_LOCAL if self._trust_local else "")
        if not settings.exists() or settings.read_text() != wanted:
            settings.write_text(wanted)
        return self._home

    def _environment(self, extra: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
        pairs = {
            f"GIT_CONFIG_{what}_{number}": text
            for number, (key, value) in enumerate(config.items())
            for what, text in (("KEY", key), ("VALUE", value))
        }
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._home),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self._home / "gitconfig"),
            "GIT_CONFIG_COUNT": str(len(config)),
            **pairs,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_ALLOW_PROTOCOL": "",
            "GIT_OPTIONAL_LOCKS": "0",
            **extra,
        }


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes | None) -> tuple[bytes, bytes]:
    async def feed() -> None:
        if process.stdin is not None and stdin is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(stdin)
                await process.stdin.drain()
            process.stdin.close()

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed())
            answer = tasks.create_task(_read(process.stdout, MAX_OUTPUT_BYTES, "git printed more than 64 MiB"))
            errors = tasks.create_task(_read(process.stderr, _ERROR_BYTES, None))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return answer.result(), errors.result()


async def _read(stream: asyncio.StreamReader | None, limit: int, too_much: str | None) -> bytes:
    """Read to the end; past the limit either fail or throw away, so that the process never blocks on its pipe."""
    kept = bytearray()
    while stream is not None and (chunk := await stream.read(1024**2)):
        if len(kept) + len(chunk) > limit and too_much is not None:
            raise GitError(f"The repository is too large: {too_much}.")
        kept += chunk[: limit - len(kept)]
    return bytes(kept)


def _readable(text: str) -> str:
    lines = [line.removeprefix("fatal: ").removeprefix("error: ").strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("hint:", "Please make sure", "and the repository"))]
    return " ".join(kept[-4:])
