"""Which files become outputs and when: finished ones during the run, all others at its end."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from slipway_kit.errors import SlipwayError, Unavailable
from slipway_kit.logging import get_logger
from slipway_schemas.attempts import OutputsAnswer, OutputsRequest
from slipway_schemas.base import JsonObject
from slipway_worker.attempts.platform import AttemptPlatform
from slipway_worker.outputs.ledger import UploadedOutput, UploadLedger
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
_ROUNDS: Final = 5


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
        on_trouble: Callable[[str], None],
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._uploader = uploader
        self._platform = platform
        self._say = say
        self._on_trouble = on_trouble
        self._told: set[str] = set()
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
        for _ in range(_ROUNDS):
            entries = await asyncio.to_thread(lambda: list(walk(self._root)))
            self._tell_skipped(entries)
            found = {one.name: one for one in entries if isinstance(one, FoundFile)}
            sidecars = sidecars_of(found, self._ledger.names())
            left = [one for name, one in found.items() if name not in sidecars and self._ledger.find(one) is None]
            properties = await asyncio.to_thread(read_properties, self._root, sidecars)
            if not left:
                break
            for start in range(0, len(left), _BATCH):
                await self._upload_batch(left[start : start + _BATCH], properties.by_name)
                await self._register()
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
        self._say(f"Uploaded output {found.name}: {output.size} bytes, sha256 {output.sha256}")

    async def _finish_live(self) -> None:
        """Register what is uploaded, then remove the files that were uploaded live."""
        if self._ledger.unregistered():
            await self._register()
        for one in self._ledger.uploads():
            if one.live and one.registered:
                await asyncio.to_thread(remove, self._root, one.file.name, one.version)

    async def _register(self, late: dict[str, JsonObject] | None = None) -> None:
        pending = self._ledger.unregistered()
        for start in range(0, max(len(pending), 1), _BATCH):
            batch = pending[start : start + _BATCH]
            if not batch and not late and self.registered:
                return
            request = OutputsRequest(files=tuple(one.file for one in batch), properties=late or {})
            answer = await self._send(request)
            self.registered = answer.registered
            for warning in answer.warnings:
                self._tell_once(f"Output properties: {warning}")
            self._ledger.write([one.model_copy(update={"registered": True}) for one in batch])

    async def _send(self, request: OutputsRequest) -> OutputsAnswer:
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = await self._platform.register_outputs(request)
            except SlipwayError as error:
                if not isinstance(error, Unavailable) and error.kind != "internal":
                    raise
                self._on_trouble(f"waiting for the platform: {error.message}")
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self._on_trouble("")
            return answer

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
