"""Sends one output file to the store, for as long as that takes."""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from slipway_kit.errors import Conflict, SlipwayError
from slipway_kit.transfer import ClientSession
from slipway_schemas.attempts import OutputFile, UploadRequest, UploadTicket
from slipway_schemas.base import JsonObject
from slipway_storage.store import UploadedPart
from slipway_storage.transfer import MultipartTicket, PartUrl, PutTicket, Uploaded, upload
from slipway_storage.transfer.retries import RetryPolicy
from slipway_worker.attempts.platform import AttemptPlatform
from slipway_worker.outputs.progress import UploadProgress
from slipway_worker.outputs.walking import FoundFile, opened

_POLICY: Final = RetryPolicy(tries=3, first_pause_seconds=0.2, longest_pause_seconds=2)
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 20.0


class Uploader:
    """Uploads with tickets of the gateway, and says what it waits for."""

    def __init__(self, session: ClientSession, platform: AttemptPlatform, root: Path, progress: UploadProgress) -> None:
        self._session = session
        self._platform = platform
        self._root = root
        self._progress = progress

    async def upload(self, found: FoundFile, properties: JsonObject) -> OutputFile | None:
        """Upload a file; None when it vanished or was changed meanwhile.

        Waits for store and gateway without limit: the run's work is in these files.
        """
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    with opened(self._root, found.name) as descriptor:
                        status = os.fstat(descriptor)
                        if (status.st_size, status.st_mtime_ns, status.st_ino) != found.version:
                            return None
                        return await self._once(found, descriptor, properties)
                except OSError:
                    return None
                except SlipwayError as error:
                    if isinstance(error, Conflict) and error.code == "conflict":
                        return None
                    # Whatever else was answered, somebody may mend it: nothing here is worth losing the files.
                    what = "the platform" if error.kind == "internal" else "the store"
                    self._progress.waits(found.name, what, error.message, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._progress.goes_on(found.name)

    async def _once(self, found: FoundFile, descriptor: int, properties: JsonObject) -> OutputFile:
        request = UploadRequest(name=found.name, size=found.size, version="-".join(map(str, found.version)))
        ticket = await self._platform.upload_ticket(request)

        async def renew() -> PutTicket:
            again = await self._platform.upload_ticket(request)
            return PutTicket(url=again.url or "", headers=again.headers)

        async def more_parts(numbers: Sequence[int]) -> Sequence[PartUrl]:
            urls = await self._platform.part_urls(ticket.datum_id, tuple(numbers))
            return [PartUrl(number=number, url=url) for number, url in urls.part_urls.items()]

        sent = await upload(
            self._session,
            descriptor,
            _store_ticket(ticket),
            hashes=("md5", "sha1", "sha256"),
            renew=renew,
            more_parts=more_parts,
            policy=_POLICY,
        )
        return _output_file(found, ticket, sent, properties)


def _store_ticket(ticket: UploadTicket) -> PutTicket | MultipartTicket:
    if not ticket.multipart:
        return PutTicket(url=ticket.url or "", headers=ticket.headers)
    return MultipartTicket(
        part_bytes=ticket.part_size or 1,
        parts=tuple(PartUrl(number=number, url=url) for number, url in sorted(ticket.part_urls.items())),
        done=tuple(UploadedPart(number=number, etag=etag) for number, etag in sorted(ticket.uploaded_parts.items())),
    )


def _output_file(found: FoundFile, ticket: UploadTicket, sent: Uploaded, properties: JsonObject) -> OutputFile:
    return OutputFile(
        datum_id=ticket.datum_id,
        name=found.name,
        size=sent.size,
        md5=sent.digests["md5"],
        sha1=sent.digests["sha1"],
        sha256=sent.digests["sha256"],
        etags={part.number: part.etag for part in sent.parts},
        modified_at=datetime.fromtimestamp(found.modified_ns / 1e9, UTC),
        properties=properties,
    )
