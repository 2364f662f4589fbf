"""Bundles: what an image is on the process target. A folder with code, files and metadata, and a Python environment."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import IO
from uuid import uuid4

from slipway_builder.images import contents
from slipway_builder.images.building import BuildInput
from slipway_builder.images.protocol import BuildError, BuildLog, BuiltImage, FileSource
from slipway_builder.images.wsgi import write_wsgi_server, wsgi_version
from slipway_builder.work_folders import WorkFolder
from slipway_kit.errors import Unavailable

PREFIX = "bundle:"
INSTALL_SECONDS = 1800.0
_COMPLETE = ".complete"
_LAST_LINES = 15
_LOCK_SECONDS = 0.2


class Bundles:
    """Makes and finds bundles below one directory: `code/<digest>` and `venvs/<digest>`."""

    name = "bundle"

    def __init__(self, home: Path) -> None:
        self._home = home
        self._parts = WorkFolder(home / "parts")

    def code(self, reference: str) -> Path:
        """The folder that becomes `/valohai`."""
        return self._home / "code" / reference.removeprefix(PREFIX).partition("+")[0]

    def venv(self, reference: str) -> Path | None:
        """The Python environment, where the version has requirements."""
        digest = reference.partition("+")[2]
        return self._home / "venvs" / digest if digest else None

    async def wsgi_server(self) -> Path:
        """The folder with the WSGI server that the platform brings. Raises `Unavailable` where it is not installed."""
        return await asyncio.to_thread(self._write_wsgi_server)

    async def build(self, wanted: BuildInput, log: BuildLog) -> BuiltImage:
        """Make the bundle; equal input gives the same one. Raises `BuildError`, `Unavailable`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        log("This target runs processes: the image is ignored, the server uses this machine's Python.")
        digest = await asyncio.to_thread(_digest, wanted)
        target = self._home / "code" / digest
        if not target.exists():
            await self._assemble(wanted, target)
        unpacked = loop.time()
        size = await asyncio.to_thread(_size_of, target)
        venv = await self._environment(target, log)
        log("Ready.")
        return BuiltImage(
            reference=f"{PREFIX}{digest}" + (f"+{venv}" if venv else ""),
            digest=f"sha256:{digest}",
            base_digest="",
            size=size,
            pushed=0,
            command=contents.server_argv(wanted.spec),
            seconds={"files": round(unpacked - began, 3), "requirements": round(loop.time() - unpacked, 3)},
        )

    async def sweep(self) -> list[str]:
        """Delete what builders that have ended were assembling; returns what that was."""
        return await self._parts.sweep()

    async def unreferenced(self, references: Set[str], *, delete: bool) -> tuple[tuple[str, ...], int]:
        """Bundles and environments that no reference names, deleted if `delete`, and how many are kept.

        Nothing may be built below this directory meanwhile.
        """
        return await asyncio.to_thread(self._unreferenced, references, delete)

    def _unreferenced(self, references: Set[str], delete: bool) -> tuple[tuple[str, ...], int]:
        wanted = {path for one in references for path in (self.code(one), self.venv(one)) if path is not None}
        there = [
            path
            for name in ("code", "venvs")
            if (self._home / name).is_dir()
            for path in sorted((self._home / name).iterdir())
            if path.is_dir()
        ]
        gone = [path for path in there if path not in wanted]
        for path in gone if delete else ():
            going = self._parts.path / uuid4().hex
            path.rename(going)  # at once: what is half deleted must not be taken for whole
            shutil.rmtree(going, ignore_errors=True)
        return tuple(f"{path.parent.name}/{path.name}" for path in gone), len(there) - len(gone)

    def close(self) -> None:
        """Delete what is half done. Blocking."""
        self._parts.close()

    def _write_wsgi_server(self) -> Path:
        folder = self._home / "servers" / f"{contents.WSGI_SERVER}-{wsgi_version()}"
        if not folder.is_dir():
            part = self._parts.path / uuid4().hex
            write_wsgi_server(part)
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # another one was quicker
                    raise
                shutil.rmtree(part)
        return folder

    async def _assemble(self, wanted: BuildInput, target: Path) -> None:
        part = self._parts.path / uuid4().hex
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            await asyncio.to_thread(contents.unpack_code, wanted.code, part)
            for file in wanted.files:
                await write_file(file, part)
            await asyncio.to_thread(contents.write_metadata, part, wanted.metadata)
            (part / ".home").mkdir(exist_ok=True)
            try:
                part.rename(target)
            except OSError:
                if not target.exists():  # another build of the same version was quicker
                    raise
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)

    async def _environment(self, code: Path, log: BuildLog) -> str | None:
        file = contents.requirements_file(code)
        if file is None:
            return None
        stamp = b"\0".join([file.read_bytes(), sys.version.encode(), sys.prefix.encode()])
        digest = hashlib.sha256(stamp).hexdigest()[:24]
        venv = self._home / "venvs" / digest
        venv.parent.mkdir(parents=True, exist_ok=True)
        with (venv.parent / f".{digest}.lock").open("w") as lock:
            await _lock(lock, log)
            if (venv / _COMPLETE).exists():
                log("The requirements are installed already.")
                return digest
            await asyncio.to_thread(shutil.rmtree, venv, ignore_errors=True)
            log(f"Installing {file.name}.")

            async def run(*command: str) -> None:
                await _run(command, code, log, lock)

            uv = Path(sys.executable).parent / "uv"
            if uv.exists():
                base = getattr(sys, "_base_executable", sys.executable)
                await run(str(uv), "venv", "--quiet", "--no-project", "--python", base, str(venv))
                await run(str(uv), "pip", "install", "--python", str(venv / "bin" / "python"), "-r", str(file))
            else:
                await run(sys.executable, "-m", "venv", str(venv))
                await run(str(venv / "bin" / "pip"), "install", "--quiet", "-r", str(file))
            (venv / _COMPLETE).touch()
        return digest


async def write_file(file: FileSource, root: Path) -> None:
    """Write a chosen file to its place. Raises `BuildError` for a bad path, `Unavailable` when it arrived damaged."""
    path = contents.safe_file_path(root, file.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as target:
        async for chunk in file.open():
            await asyncio.to_thread(target.write, chunk)
            await asyncio.to_thread(digest.update, chunk)
            size += len(chunk)
    if size != file.size or (file.sha256 and digest.hexdigest() != file.sha256):
        raise Unavailable(f"The file for {file.path} arrived damaged: {size} of {file.size} bytes.")


async def _lock(file: IO[str], log: BuildLog) -> None:
    """Wait for the lock without a thread that waits. Raises `Unavailable` when others hold it for too long."""
    loop = asyncio.get_running_loop()
    began, told = loop.time(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if loop.time() - began > INSTALL_SECONDS:
                raise Unavailable("Another build has been installing these requirements for too long.") from None
        else:
            return
        if not told:
            log("Another build installs the same requirements: waiting for it.")
            told = True
        await asyncio.sleep(_LOCK_SECONDS)


async def _run(command: Sequence[str], folder: Path, log: BuildLog, lock: IO[str]) -> None:
    """Run an installer with its output in the log. Raises `BuildError` with its last lines.

    The installer holds the lock too: it may outlive a builder that is killed, and nobody else must write then.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        pass_fds=(lock.fileno(),),
    )
    last: list[str] = []
    try:
        async with asyncio.timeout(INSTALL_SECONDS):
            assert process.stdout is not None  # noqa: S101 - asked for above
            async for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                log(line)
                last = [*last, line][-_LAST_LINES:]
            code = await process.wait()
    except TimeoutError:
        raise BuildError(f"The requirements were not installed within {INSTALL_SECONDS:.0f} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        said = "\n".join(last)
        raise BuildError(f"The requirements cannot be installed:\n{said}", code="requirements_failed")


def _digest(wanted: BuildInput) -> str:
    """SHA-256 over all that is inside."""
    digest = hashlib.sha256()
    with wanted.code.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    for one in sorted(wanted.files, key=lambda file: file.path):
        digest.update(f"\0{one.path}\0{one.size}\0{one.sha256}".encode())
    digest.update(contents.metadata_bytes(wanted.metadata))
    return digest.hexdigest()


def _size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
