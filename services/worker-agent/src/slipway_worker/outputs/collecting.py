"""Which files become outputs and when: finished ones during the run, all others at its end."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from slipway_kit.errors import Conflict, SlipwayError
from slipway_kit.logging import get_logger
from slipway_schemas.attempts import OutputsAnswer, OutputsRequest
from slipway_schemas.base import JsonObject
from slipway_worker.attempts.platform import AttemptPlatform
from slipway_worker.outputs.ledger import UploadedOutput, UploadLedger
from slipway_worker.outputs.progress import UploadProgress
from slipway_worker.outputs.sidecars import (
    PROPERTIES_FILE,
    SIDECAR_SUFFIX,
    read_properties,
    read_sidecar,
    sidecars_of,
)
from slipway_worker.outputs.uploading import Uploader
from slipway_worker.outputs.walking import FoundFile, SkippedEntry, remove, walk

_LOG = get_logger()
_SCAN_SECONDS: Final = 0.5
_BATCH: Final = 200
_AT_ONCE: Final = 4
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 20.0
_TRIES: Final = 5
_REGISTRATION: Final = ""
"""The wait that is no file's."""


class OutputCollector:
    """Uploads and registers an attempt's outputs. Can be begun again at any point after a restart."""

    def __init__(
        self,
        root: Path,
        ledger: UploadLedger,
        uploader: Uploader,
        platform: AttemptPlatform,
        *,
        say: Callable[[str], None],
        progress: UploadProgress,
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._uploader = uploader
        self._platform = platform
        self._say = say
        self._progress = progress
        self._told: set[str] = set()
        self._lost = False
        self.registered = 0

    async def watch(self) -> None:
        """During the run: upload files whose write bits are cleared once their size is stable, and remove them."""
        await self._finish_live()
        seen: dict[str, FoundFile] = {}
        while True:
            found = await asyncio.to_thread(lambda: [one for one in walk(self._root) if _may_be_live(one)])
            stable = [one for one in found if isinstance(one, FoundFile) and seen.get(one.name) == one]
            seen = {one.name: one for one in found if isinstance(one, FoundFile)}
            for one in stable:
                await self._upload_live(one)
            if stable:
                await self._finish_live()
            await asyncio.sleep(_SCAN_SECONDS)

    async def collect(self) -> int:
        """After the run: upload and register all that is left; the number of outputs registered."""
        await self._finish_live()
        tries = 0
        while True:
            entries = await asyncio.to_thread(lambda: list(walk(self._root)))
            self._tell_skipped(entries)
            found = {one.name: one for one in entries if isinstance(one, FoundFile)}
            sidecars = sidecars_of(found, self._ledger.names())
            left = [one for name, one in found.items() if name not in sidecars and self._ledger.find(one) is None]
            properties = await asyncio.to_thread(read_properties, self._root, sidecars)
            if not left:
                break
            if tries == _TRIES:
                for one in left:
                    self._tell_once(f"Output {one.name} is not uploaded: it cannot be read, or is still being written.")
                break
            self._progress.left({one.name: one.size for one in left}, len(self._ledger.uploads()))
            before = len(self._ledger.uploads())
            for start in range(0, len(left), _BATCH):
                await self._upload_batch(left[start : start + _BATCH], properties.by_name)
                await self._register()
            # What was lost again counts as moved on: only files that cannot be had end this.
            tries = tries + 1 if len(self._ledger.uploads()) == before and not self._lost else 0
            self._lost = False
        self._progress.left({}, len(self._ledger.uploads()))
        for warning in properties.warnings:
            self._tell_once(f"Output properties: {warning}.")
        self._tell_strangers(properties.by_name)
        late = {
            one.file.name: properties.by_name[one.file.name]
            for one in self._ledger.uploads()
            if one.file.name in properties.by_name and properties.by_name[one.file.name] != one.file.properties
        }
        await self._register(late)
        return self.registered

    async def _upload_batch(self, files: list[FoundFile], properties: dict[str, JsonObject]) -> None:
        waiting = iter(files)

        async def work() -> None:
            for one in waiting:
                await self._upload(one, properties.get(one.name, {}), live=False)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(files))):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _upload_live(self, found: FoundFile) -> None:
        if self._ledger.find(found) is not None:
            return
        warnings: list[str] = []
        properties = await asyncio.to_thread(read_sidecar, self._root, found.name, warnings)
        await self._upload(found, properties or {}, live=True)

    async def _upload(self, found: FoundFile, properties: JsonObject, *, live: bool) -> None:
        output = await self._uploader.upload(found, properties)
        if output is None:
            return
        self._ledger.write([UploadedOutput(file=output, version=found.version, live=live)])
        self._progress.uploaded(found.name)
        self._say(f"Uploaded output {found.name}: {output.size} bytes, sha256 {output.sha256}")

    async def _finish_live(self) -> None:
        """Register what is uploaded, then remove the files that were uploaded live."""
        if self._ledger.unregistered():
            await self._register()
        for one in self._ledger.uploads():
            if one.live and one.registered:
                await asyncio.to_thread(remove, self._root, one.file.name, one.version)

    async def _register(self, late: dict[str, JsonObject] | None = None) -> None:
        while True:
            pending = self._ledger.unregistered()[:_BATCH]
            if not pending and not late and self.registered:
                return
            answer = await self._send(OutputsRequest(files=tuple(one.file for one in pending), properties=late or {}))
            if answer is None:
                continue
            self.registered = answer.registered
            for warning in answer.warnings:
                self._tell_once(f"Output properties: {warning}")
            self._ledger.write([one.model_copy(update={"registered": True}) for one in pending])
            late = None
            if not self._ledger.unregistered():
                return

    async def _send(self, request: OutputsRequest) -> OutputsAnswer | None:
        """Register; None when the store has lost some of these files, which are to be uploaded again."""
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    return await self._platform.register_outputs(request)
                except SlipwayError as error:
                    self._progress.waits(_REGISTRATION, "the platform", error.message, pause)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    if isinstance(error, Conflict):
                        self._forget(request, error)
                        return None
        finally:
            self._progress.goes_on(_REGISTRATION)

    def _forget(self, request: OutputsRequest, error: Conflict) -> None:
        """What is not in the store is uploaded again, if the file is still there: the one named, else all."""
        named = str(error.details.get("datum_id", ""))
        datums = {file.datum_id for file in request.files}
        lost = {datum for datum in datums if str(datum) == named} or datums
        _LOG.warning("outputs_lost_by_store", outputs=len(lost), error=error.message)
        self._ledger.forget(lost)
        self._lost = True

    def _tell_skipped(self, entries: Iterable[FoundFile | SkippedEntry]) -> None:
        for one in entries:
            if isinstance(one, SkippedEntry):
                self._tell_once(f"Output {one.name} is not uploaded: {one.why}.")

    def _tell_strangers(self, properties: dict[str, JsonObject]) -> None:
        outputs = self._ledger.names()
        for name in sorted(set(properties) - outputs):
            self._tell_once(f"Output properties name {name}, which is not an output.")

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)


def _may_be_live(entry: FoundFile | SkippedEntry) -> bool:
    return (
        isinstance(entry, FoundFile)
        and not entry.writable
        and entry.name != PROPERTIES_FILE
        and not entry.name.endswith(SIDECAR_SUFFIX)
    )
