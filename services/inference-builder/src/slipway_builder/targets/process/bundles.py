"""Bundles: what an image is on the process target. A folder with code, files and metadata, and a Python environment."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from slipway_builder.images import contents
from slipway_builder.images.building import BuildInput
from slipway_builder.images.protocol import BuildError, BuildLog, BuiltImage, FileSource
from slipway_builder.images.wsgi import write_wsgi_server, wsgi_version
from slipway_kit.errors import Unavailable

PREFIX = "bundle:"
INSTALL_SECONDS = 1800.0
_COMPLETE = ".complete"
_LAST_LINES = 15


class Bundles:
    """Makes and finds bundles below one directory: `code/<digest>` and `venvs/<digest>`."""

    name = "bundle"

    def __init__(self, home: Path) -> None:
        self._home = home

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

    def _write_wsgi_server(self) -> Path:
        folder = self._home / "servers" / f"{contents.WSGI_SERVER}-{wsgi_version()}"
        if not folder.is_dir():
            part = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.part")
            write_wsgi_server(part)
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # another one was quicker
                    raise
                shutil.rmtree(part)
        return folder

    async def _assemble(self, wanted: BuildInput, target: Path) -> None:
        part = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
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
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if (venv / _COMPLETE).exists():
                log("The requirements are installed already.")
                return digest
            await asyncio.to_thread(shutil.rmtree, venv, ignore_errors=True)
            what = ["-r", str(file)]
            log(f"Installing {file.name}.")
            uv = Path(sys.executable).parent / "uv"
            if uv.exists():
                base = getattr(sys, "_base_executable", sys.executable)
                await _run([str(uv), "venv", "--quiet", "--no-project", "--python", base, str(venv)], code, log)
                python = str(venv / "bin" / "python")
                await _run([str(uv), "pip", "install", "--python", python, *what], code, log)
            else:
                await _run([sys.executable, "-m", "venv", str(venv)], code, log)
                await _run([str(venv / "bin" / "pip"), "install", "--quiet", *what], code, log)
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


async def _run(command: Sequence[str], folder: Path, log: BuildLog) -> None:
    """Run an installer with its output in the log. Raises `BuildError` with its last lines."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
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
