"""Fetches the inputs of an attempt into its directory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from slipway_kit.errors import Forbidden, Invalid, NotFound, Unavailable
from slipway_kit.transfer import ClientSession
from slipway_schemas.attempts import ResolvedFile, ResolvedInput
from slipway_schemas.executions import InputSpec
from slipway_schemas.lifecycles import EndReason
from slipway_storage.checksums import HashName
from slipway_storage.transfer import download
from slipway_storage.transfer.retries import RetryPolicy
from slipway_worker.attempts.outcome import AttemptFailure
from slipway_worker.cache.input_cache import CachedFile, InputCache, place

_AT_ONCE: Final = 4
_HASHES: Final[tuple[HashName, ...]] = ("md5", "sha1", "sha256")
_POLICY: Final = RetryPolicy(tries=4, first_pause_seconds=0.3, longest_pause_seconds=5)

NewUrls = Callable[[], Awaitable[tuple[ResolvedInput, ...]]]
"""Asks the gateway for the inputs again: the same files with fresh signed URLs."""


class InputFetcher:
    """Downloads through the cache, checks, reports a status line per file.

    `plain` is used for signed URLs, `guarded` for users' own addresses: it keeps the egress rules.
    """

    def __init__(
        self,
        directory: Path,
        *,
        plain: ClientSession,
        guarded: ClientSession,
        cache: InputCache | None,
        renew: NewUrls,
        say: Callable[[str], None],
        progress: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._plain = plain
        self._guarded = guarded
        self._cache = cache
        self._renew = renew
        self._say = say
        self._progress = progress
        self._files_wanted = 0
        self._files_here = 0
        self._bytes_here = 0

    async def fetch(self, declared: Iterable[InputSpec], inputs: Iterable[ResolvedInput]) -> tuple[ResolvedInput, ...]:
        """Fetch everything that is not on demand; the inputs with names, sizes and checksums as they are on disk.

        Raises `AttemptFailure` with reason `input_failed` (not found, refused, wrong checksum) or
        `store_unreachable`.
        """
        specs = {spec.name: spec for spec in declared}
        resolved = list(inputs)
        for name in {*specs, *(one.name for one in resolved)}:
            _make_directory(self._directory, name)
        self._files_wanted = sum(len(one.files) for one in resolved if one.download != "on-demand")
        return tuple([await self._fetch_input(one, specs.get(one.name)) for one in resolved])

    async def _fetch_input(self, one: ResolvedInput, spec: InputSpec | None) -> ResolvedInput:
        if one.download == "on-demand":
            return one
        files: list[ResolvedFile] = list(one.files)
        waiting = iter(range(len(files)))
        renamed = spec is not None and spec.filename is not None
        contents: dict[int, Path] = {}
        staging = self._directory / one.name

        async def work() -> None:
            for index in waiting:
                files[index], contents[index] = await self._fetch_file(one, index, staging, renamed=renamed)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(files))):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return one.model_copy(update={"files": tuple(self._placed(one.name, staging, files, contents))})

    def _placed(
        self, name: str, directory: Path, files: list[ResolvedFile], contents: dict[int, Path]
    ) -> list[ResolvedFile]:
        """Give the files their names, in the order of the declaration: of two with one name the last one wins."""
        kept: dict[str, ResolvedFile] = {}
        for index, file in enumerate(files):
            if file.name in kept:
                self._say(f"Input {name}: two files are called {file.name}; the last one is kept")
                del kept[file.name]
            target = directory.joinpath(*PurePosixPath(file.name).parts)
            _make_directory(directory, str(PurePosixPath(file.name).parent))
            if target.is_dir():
                raise AttemptFailure(EndReason.INPUT_FAILED, f"Input {name}: {file.name} is a file and a directory.")
            contents[index].replace(target)
            target.chmod(0o444)
            kept[file.name] = file
        return list(kept.values())

    async def _fetch_file(
        self, one: ResolvedInput, index: int, staging: Path, *, renamed: bool
    ) -> tuple[ResolvedFile, Path]:
        file = one.files[index]
        self._progress(
            f"{self._files_here} of {self._files_wanted} files, {self._bytes_here / 1e6:.1f} MB; "
            f"now input {one.name}: {file.name}"
        )
        shown = f"Input {one.name}: {file.name}"
        path = staging / f".slipway-{index}"

        async def fill(target: Path) -> CachedFile:
            return await self._download(one.name, index, file, target)

        try:
            async with self._content(file, path, fill) as (content, known, hit):
                self._check(file, known, shown)
                if content != path:
                    await asyncio.to_thread(place, content, path)
        except NotFound as error:
            raise AttemptFailure(EndReason.INPUT_FAILED, f"{shown} was not found at {_shown(file)}.") from error
        except (Forbidden, Invalid) as error:
            text = f"{shown} could not be fetched from {_shown(file)}: {error.message}"
            raise AttemptFailure(EndReason.INPUT_FAILED, text) from error
        except Unavailable as error:
            text = f"{shown} could not be fetched from {_shown(file)}: {error.message}"
            raise AttemptFailure(EndReason.STORE_UNREACHABLE, text, retryable=True) from error
        name = file.name
        if file.public and not renamed and known.filename:
            name = safe_name(known.filename) or name
        self._files_here += 1
        self._bytes_here += known.size
        source = " (from the cache)" if hit else ""
        self._say(
            f"Input {one.name}: {name}, {known.size} bytes, md5 {known.md5}, sha1 {known.sha1}, "
            f"sha256 {known.sha256}{source}"
        )
        update = {"name": name, "size": known.size, "md5": known.md5, "sha1": known.sha1, "sha256": known.sha256}
        return file.model_copy(update=update), path

    @asynccontextmanager
    async def _content(
        self, file: ResolvedFile, path: Path, fill: Callable[[Path], Awaitable[CachedFile]]
    ) -> AsyncIterator[tuple[Path, CachedFile, bool]]:
        if self._cache is None:
            yield path, await fill(path), False
            return
        async with self._cache.entry(file.cache_key, fill) as found:
            yield found

    async def _download(self, name: str, index: int, file: ResolvedFile, target: Path) -> CachedFile:
        async def renew() -> str:
            for one in await self._renew():
                if one.name == name and index < len(one.files) and one.files[index].uri == file.uri:
                    return one.files[index].url
            raise Forbidden("The gateway gives no new URL for this file.")

        wanted: dict[HashName, str | None] = {"md5": file.md5, "sha1": file.sha1, "sha256": file.sha256}
        got = await download(
            self._guarded if file.public else self._plain,
            file.url,
            target,
            expected_size=file.size,
            expected={key: value for key, value in wanted.items() if value is not None},
            hashes=_HASHES,
            renew=None if file.public else renew,
            policy=_POLICY,
        )
        sums = got.digests
        return CachedFile(
            key=file.cache_key,
            size=got.size,
            md5=sums["md5"],
            sha1=sums["sha1"],
            sha256=sums["sha256"],
            filename=got.filename if file.public else None,
        )

    @staticmethod
    def _check(file: ResolvedFile, known: CachedFile, shown: str) -> None:
        """What came from the cache is held against the checksums that this execution expects."""
        for label, expected, found in (
            ("md5", file.md5, known.md5),
            ("sha1", file.sha1, known.sha1),
            ("sha256", file.sha256, known.sha256),
        ):
            if expected is not None and expected.lower() != found:
                raise Invalid(f"{shown} has {label} {found}, not {expected} as expected.")


def safe_name(proposed: str) -> str | None:
    """A file name that a server proposed, without directories; None when nothing usable is left."""
    name = proposed.replace("\\", "/").rpartition("/")[2].strip().replace("\0", "")
    return name if name and name not in {".", ".."} and len(name.encode()) <= 255 else None


def _make_directory(root: Path, relative: str) -> None:
    """Directories below `root`, writable by the run (contract 3.1). Raises `AttemptFailure` for a way out."""
    path = root
    for part in PurePosixPath(relative).parts:
        if part in {"..", "/"}:
            raise AttemptFailure(EndReason.INPUT_FAILED, f"The name {relative} leaves the inputs directory.")
        path /= part
        path.mkdir(exist_ok=True)
        path.chmod(0o777)


def _shown(file: ResolvedFile) -> str:
    """The address without credentials and without a signature."""
    parts = urlsplit(file.uri)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
