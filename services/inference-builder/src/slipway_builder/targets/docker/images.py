"""Images of a host without a registry: made by its own engine, kept there, named by their id."""

import asyncio
import hashlib
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any, Final

from slipway_builder.images import contents
from slipway_builder.images.builders.docker_engine import Engine
from slipway_builder.images.building import BuildInput
from slipway_builder.images.protocol import (
    ENDPOINT_UID,
    HOME_DIRECTORY,
    METADATA_FILE,
    WORK_DIRECTORY,
    BuildError,
    BuildLog,
    BuiltImage,
)
from slipway_builder.targets.process.bundles import write_file
from slipway_builder.work_folders import WorkFolder

REPOSITORY: Final = "slipway-endpoint"
_LAST_LINES: Final = 15
_INSTALL: Final = "python3 -m pip install --user --no-cache-dir --disable-pip-version-check"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HostImages:
    """Copies code and files into a container of the base image, installs what is required, and commits it."""

    name = "engine"

    def __init__(self, engine: Engine, work: WorkFolder) -> None:
        self._engine = engine
        self._work = work

    async def build(self, wanted: BuildInput, log: BuildLog) -> BuiltImage:
        """Build. Raises `BuildError`, `Unavailable`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        base = await self._base(wanted.base, log)
        folder = self._work.path / f"{wanted.lease}.engine"
        try:
            tree = folder / "valohai"
            await asyncio.to_thread(contents.unpack_code, wanted.code, tree)
            for file in wanted.files:
                await write_file(file, tree)
            await asyncio.to_thread(contents.write_metadata, tree, wanted.metadata)
            (tree / ".home").mkdir(exist_ok=True)
            archive = folder / "tree.tar"
            digest = await asyncio.to_thread(_pack, tree, archive, base)
            steps = self._steps(tree, wanted)
            tag = hashlib.sha256(f"{digest}{steps}".encode()).hexdigest()[:32]
            known = await self._engine.image_id(f"{REPOSITORY}:{tag}")
            packed = loop.time()
            if known is None:
                known = await self._make(wanted, base, archive, steps, tag, log)
            else:
                log("This image is there already.")
            log(f"Ready: {known}")
            return BuiltImage(
                reference=known,
                digest=known,
                base_digest=base,
                size=archive.stat().st_size,
                pushed=0,
                command=contents.server_argv(wanted.spec),
                seconds={"files": round(packed - began, 3), "engine": round(loop.time() - packed, 3)},
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _base(self, name: str, log: BuildLog) -> str:
        if name.startswith(("sha256:", REPOSITORY)) or re.fullmatch(r"[0-9a-f]{6,64}", name):
            raise BuildError(
                f"{name} names an image of this host, which may be another deployment's. Name a base image.",
                code="image_denied",
            )
        found = await self._engine.image_id(name)
        if found is None:
            log(f"Pulling {name}")
            await self._engine.pull_public(name, log)
            found = await self._engine.image_id(name)
        if found is None:
            raise BuildError(f"The image {name} cannot be had: check its name in valohai.yaml.", code="image_missing")
        return found

    @staticmethod
    def _steps(tree: Path, wanted: BuildInput) -> tuple[str, ...]:
        """The commands that are run as the endpoint's user, in the work directory."""
        file = contents.requirements_file(tree)
        wanted_by = [f"-r {file.name}"] if file is not None else []
        if wanted.spec.wsgi is not None:
            wanted_by.append(contents.WSGI_SERVER)
        return tuple(f"{_INSTALL} {what}" for what in wanted_by)

    async def _make(
        self, wanted: BuildInput, base: str, archive: Path, steps: tuple[str, ...], tag: str, log: BuildLog
    ) -> str:
        config: dict[str, Any] = {
            "Image": base,
            "Cmd": ["/bin/sh", "-ec", "\n".join(steps) or "true"],
            "Env": [f"HOME={HOME_DIRECTORY}", f"PATH={HOME_DIRECTORY}/.local/bin:{_PATH}"],
            "User": f"{ENDPOINT_UID}:{ENDPOINT_UID}",
            "WorkingDir": WORK_DIRECTORY,
        }
        last: list[str] = []

        def keep(line: str, /) -> None:
            log(line)
            last.append(line)
            del last[:-_LAST_LINES]

        async with self._engine.container(config, str(wanted.image_id), wanted.lease) as container:
            await self._engine.put_layer(container, archive)
            if steps:
                code = await self._engine.run(container, keep)
                if code != 0:
                    said = "\n".join(last)
                    raise BuildError(f"The requirements cannot be installed:\n{said}", code="requirements_failed")
            return await self._engine.commit(container, REPOSITORY, tag)


def _pack(tree: Path, archive: Path, base: str) -> str:
    """Write the tree as a tar below the work directory, sorted and without times; returns its SHA-256 with the base."""
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in [tree, *sorted(tree.rglob("*"))]:
            name = WORK_DIRECTORY.lstrip("/")
            if path != tree:
                name = f"{name}/{path.relative_to(tree).as_posix()}"
            member = tar.gettarinfo(path, name)
            member.uid = member.gid = ENDPOINT_UID
            member.uname = member.gname = ""
            member.mtime = 0
            member.mode = 0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644
            if path.name == METADATA_FILE and path.parent == tree:
                member.mode = 0o444
            if member.isreg():
                with path.open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)
    digest = hashlib.sha256(base.encode())
    with archive.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
