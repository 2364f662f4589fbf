"""Requirements that need no command run: wheels without compiled code, put into place by uv outside of any image.

A source distribution is never built here, for that would run its author's code on the builder's machine.
"""

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import uv

from slipway_builder.images.assembling import HOME_PATH, Contents, Job, WrittenLayer, written_layer
from slipway_builder.images.layers import Entry, file_entry, tree_entries
from slipway_builder.images.protocol import CannotBuild
from slipway_kit.tasks import run_blocking

_SECONDS: Final = 180.0
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PLAIN: Final = re.compile(
    rf"{_NAME}\s*(?:\[[A-Za-z0-9,._\s-]*\])?\s*(?:(?:===|[<>=!~]=|<|>)\s*[^;@\s,]+\s*(?:,\s*)?)*(?:;[^@]*?)?"
    r"(?:\s+--hash=sha256:[0-9a-f]{64})*"
)
_VERSION: Final = re.compile(r"(3\.\d+)(?:\.|$)")
_KEPT_VARIABLES: Final = re.compile(r"PATH|HOME|UV_.*|SSL_CERT_FILE|SSL_CERT_DIR|(?i:https?_proxy|no_proxy|all_proxy)")
_NOT_CONTENT: Final = frozenset({"uv_cache.json", ".lock", "RECORD"})
"""RECORD has the hashes of scripts as uv wrote them, with this machine's Python in their first line."""
_PLATFORMS: Final = {"linux/amd64": "x86_64-unknown-linux-gnu", "linux/arm64": "aarch64-unknown-linux-gnu"}


async def wheels_layer(job: Job, contents: Contents, name: str, config: Mapping[str, Any]) -> WrittenLayer:
    """The requirements of the file of this name as one layer below the home directory.

    Raises `CannotBuild` when the base does not say its Python version, when the file has more in it than names and
    versions, when uv finds no wheels for all, and when one has compiled code: the base's C library is not known.
    """
    version = _python_version(config, name)
    text = await run_blocking(_text_of, contents, name)
    _check_plain(name, text)
    folder = job.folder / "wheels"
    target = folder / "target"
    await run_blocking(_prepare, folder, text)
    job.log(f"Resolving {name} for Python {version}, wheels only")
    platform = _PLATFORMS.get(job.request.platform)
    if platform is None:
        raise CannotBuild(f"It is not known which wheels fit {job.request.platform}.")
    where = ["--target", str(target), "--python", sys.executable]
    for_whom = ["--python-version", version, "--python-platform", platform]
    command = ["pip", "install", "--quiet", "--no-build", "--link-mode", "copy", *where, *for_whom]
    with job.watch.step("wheels"):
        await _run_uv([*command, "-r", "requirements.txt"], folder, name)
        return await run_blocking(_write, job, target, version)


def _python_version(config: Mapping[str, Any], name: str) -> str:
    """The `PYTHON_VERSION` that Python's own images declare."""
    variables = dict(str(one).partition("=")[::2] for one in (config.get("config") or {}).get("Env") or [])
    found = _VERSION.match(variables.get("PYTHON_VERSION", ""))
    if found is None:
        raise CannotBuild(
            f"{name} cannot be resolved: the base image does not say which Python it has (PYTHON_VERSION)."
        )
    return found[1]


def _text_of(contents: Contents, name: str) -> str:
    for entry in contents.code.entries(PurePosixPath()):
        if entry.path == PurePosixPath(name) and entry.open is not None:
            with entry.open() as file:
                return file.read().decode("utf-8-sig", errors="replace")
    raise CannotBuild(f"{name} is a link.")


def _check_plain(name: str, text: str) -> None:
    """Only names, versions, markers and hashes: no options, no paths, no addresses."""
    joined = re.sub(r"\\\r?\n", " ", text)
    for line in joined.splitlines():
        requirement = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if requirement and not _PLAIN.fullmatch(requirement):
            raise CannotBuild(f"{name} has a line that is more than a name and a version: {requirement[:100]!r}.")


def _prepare(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "requirements.txt").write_text(text)


async def _run_uv(arguments: list[str], folder: Path, name: str) -> None:
    """Run uv where no configuration of the user's code lies. Its index is the operator's."""
    process = await asyncio.create_subprocess_exec(
        uv.find_uv_bin(),
        *arguments,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if _KEPT_VARIABLES.fullmatch(key)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise CannotBuild(f"{name} was not resolved within {_SECONDS:.0f} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = " ".join(output.decode(errors="replace").split())[:600]
        raise CannotBuild(f"{name} cannot be installed from wheels alone. {said}")


def _write(job: Job, target: Path, version: str) -> WrittenLayer:
    compiled = sorted(_compiled(target))
    if compiled:
        raise CannotBuild(f"These requirements have compiled code: {', '.join(compiled)}.")
    return written_layer(job.folder / "wheels.layer", list(_entries(target, version)), "requirements")


def _compiled(target: Path) -> Iterator[str]:
    """Distributions whose wheel is not for any platform."""
    for wheel in target.glob("*.dist-info/WHEEL"):
        tags = [line.partition(":")[2].strip() for line in wheel.read_text().splitlines() if line.startswith("Tag:")]
        if not tags or not all(tag.endswith("-none-any") for tag in tags):
            yield wheel.parent.name.removesuffix(".dist-info")


def _entries(target: Path, version: str) -> Iterator[Entry]:
    """Packages where `pip install --user` puts them; scripts start whatever `python3` the image has."""
    local = HOME_PATH / ".local"
    packages = local / "lib" / f"python{version}" / "site-packages"
    scripts = target / "bin"
    for entry in tree_entries(target, PurePosixPath()):
        if entry.path.name in _NOT_CONTENT or entry.path.parts[0] == "bin":
            continue
        yield Entry(packages / entry.path, entry.open, entry.size, entry.link, entry.mode)
    for entry in tree_entries(scripts, local / "bin") if scripts.is_dir() else ():
        if entry.open is None:
            continue
        with entry.open() as file:
            content = file.read()
        if content.startswith(b"#!") and b"python" in content.partition(b"\n")[0]:
            content = b"#!/usr/bin/env python3\n" + content.partition(b"\n")[2]
        yield file_entry(entry.path, content, mode=0o755)
