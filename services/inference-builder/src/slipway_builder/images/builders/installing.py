"""Installs requirements in a container, and takes what that wrote as one layer."""

import re
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Final

from slipway_builder.images.assembling import HOME_PATH, WORK_PATH, Contents, Job, WrittenLayer, written_layer
from slipway_builder.images.builders.docker_engine import Engine
from slipway_builder.images.image_config import USER
from slipway_builder.images.layers import Entry
from slipway_builder.images.protocol import HOME_DIRECTORY, WORK_DIRECTORY, BuildError
from slipway_kit.tasks import run_blocking

KEPT_LINES: Final = 400
"""Where the name of a requirement that failed is looked for."""
_LAST_LINES: Final = 12
_LINE_CHARACTERS: Final = 500
_NAMED: Final = (
    re.compile(r"No matching distribution found for (?P<name>\S+)"),
    re.compile(r"Could not find a version that satisfies the requirement (?P<name>\S+)"),
    re.compile(r"Failed building wheel for (?P<name>\S+)"),
    re.compile(r"Invalid requirement: (?P<name>.+?)(?:\s+\(from|$)"),
    re.compile(r"(?:Failed to build|Could not build wheels for) (?P<name>[^\s,]+)"),
)
_INSTALL: Final = (
    "exec python3 -m pip install --user --no-cache-dir --no-compile --disable-pip-version-check"
    ' --no-warn-script-location --progress-bar off -r "$1"'
)
"""Byte code is not written: it holds times. `--user` is the contract's (4.4)."""
INSTALL_ENVIRONMENT: Final = (
    f"HOME={HOME_DIRECTORY}",
    "PIP_BREAK_SYSTEM_PACKAGES=1",
    "PIP_NO_INPUT=1",
    "PYTHONDONTWRITEBYTECODE=1",
    "PYTHONHASHSEED=0",
    "SOURCE_DATE_EPOCH=315532800",
)
_WHITEOUT: Final = ".wh."
"""Begins the name that stands in a layer for a file that was deleted."""


class InstalledTree:
    """The work directory of an installation: the code goes in, what was installed comes out."""

    def __init__(self, job: Job, contents: Contents) -> None:
        self.job = job
        self._contents = contents
        self.code_layer = job.folder / "install-code.layer"
        self.result = job.folder / "installed.tar"

    def write_code(self) -> WrittenLayer:
        """Write the code as the layer that the installation begins with. Blocking."""
        entries = self._contents.code.entries(WORK_PATH)
        return written_layer(self.code_layer, [Entry(HOME_PATH), *entries], "code")

    def layer(self) -> WrittenLayer:
        """What the installation added, as a layer. Blocking."""
        with ExitStack() as stack:
            tar = stack.enter_context(tarfile.open(self.result))
            return written_layer(self.job.folder / "dependencies.layer", list(self._added(tar)), "requirements")

    def _added(self, tar: tarfile.TarFile) -> Iterator[Entry]:
        """Members below the work directory that are not the code's own; caches are left out."""
        known = {entry.path for entry in self._contents.code.entries(WORK_PATH)}
        known |= {WORK_PATH / path for path in self._contents.taken}
        for member in tar:
            path = PurePosixPath(member.name)
            if not path.is_relative_to(WORK_PATH) or ".." in path.parts or path in known:
                continue
            if path.is_relative_to(HOME_PATH / ".cache") or "__pycache__" in path.parts:
                continue
            if path.name.startswith(_WHITEOUT):
                continue
            if member.isdir():
                yield Entry(path)
            elif member.issym():
                yield Entry(path, link=member.linkname)
            elif member.isfile() or member.islnk():
                found = tar.getmember(member.linkname) if member.islnk() else member
                mode = 0o755 if member.mode & 0o111 else 0o644
                yield Entry(path, partial(_extracted, tar, found), found.size, mode=mode)


def install_command(requirements: str) -> list[str]:
    """The command that installs a file of requirements."""
    return ["/bin/sh", "-c", _INSTALL, "install", requirements]


async def install_requirements(engine: Engine, image: str, tree: InstalledTree, requirements: str) -> None:
    """Run pip in a container of `image`, as the endpoint's user; `tree.result` then holds what came of it.

    Raises `BuildError` with the requirement's name and pip's last lines.
    """
    job = tree.job
    await run_blocking(tree.write_code)
    job.log(f"Installing {requirements}")
    tail: deque[str] = deque(maxlen=KEPT_LINES)

    def listen(line: str) -> None:
        tail.append(line)
        job.log(line)

    config = {
        "Image": image,
        "User": USER,
        "WorkingDir": WORK_DIRECTORY,
        "Cmd": install_command(requirements),
        "Env": list(INSTALL_ENVIRONMENT),
    }
    async with engine.container(config, str(job.request.image_id), job.request.lease) as container:
        await engine.put_layer(container, tree.code_layer)
        code = await engine.run(container, listen)
        if code != 0:
            raise installation_failed(requirements, job.request.base, list(tail), code)
        await engine.save_folder(container, WORK_DIRECTORY, tree.result)


def installation_failed(requirements: str, base: str, lines: list[str], code: int) -> BuildError:
    """The error for pip's exit code, with the requirement's name and pip's last lines."""
    return BuildError(_failure(requirements, base, lines, code), code="requirements_failed")


def _failure(requirements: str, base: str, lines: list[str], code: int) -> str:
    last = "\n".join(line[:_LINE_CHARACTERS] for line in lines[-_LAST_LINES:])
    if code == 127 or "No module named pip" in last:
        return f"{requirements} cannot be installed: the image {base} has no python3 with pip. Use one that has."
    for pattern in _NAMED:
        for line in reversed(lines):
            if found := pattern.search(line):
                named = found["name"].strip("'\"")
                return f"{requirements} cannot be installed because of {named}. pip said:\n{last}"
    return f"{requirements} cannot be installed (pip ended with {code}). It said:\n{last}"


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(member)
    if found is None:
        raise BuildError(f"{member.name}, which the installation made, cannot be read.")
    return found
