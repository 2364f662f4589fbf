"""Use cases of outputs by attempts: tickets, parts, registration. All of it may be repeated."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database
from slipway_gateway.data.domain import (
    MULTIPART_FROM,
    PART_URLS_AT_ONCE,
    URL_LIFETIME,
    Checksums,
    Upload,
    clean_tags,
    part_bytes,
    part_count,
    part_size,
    read_reserved,
)
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.store.aliases import AliasStore
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.data.store.uploads import UploadStore
from slipway_gateway.data.uploads import datum_row
from slipway_gateway.executions.attempts import RunningAttempt, load_attempt
from slipway_kit.errors import Conflict, Invalid, NotFound
from slipway_kit.ids import new_id
from slipway_schemas.attempts import (
    OutputFile,
    OutputsAnswer,
    OutputsRequest,
    PartUrls,
    UploadRequest,
    UploadTicket,
    file_name_problem,
)
from slipway_schemas.tokens import AttemptClaims
from slipway_storage import MultipartUpload, ObjectInfo, ObjectStore, UploadedPart
from slipway_storage.keys import data_key

_STORE_CALLS_AT_ONCE = 16


class AttemptOutputs:
    """Outputs of attempts. An attempt that another has superseded is refused."""

    def __init__(self, db: Database, stores: Stores) -> None:
        self._db = db
        self._stores = stores
        self._completing: dict[UUID, asyncio.Task[ObjectInfo | None]] = {}

    async def ticket(self, claims: AttemptClaims, request: UploadRequest) -> UploadTicket:
        """Where a file goes. Asking again for the same file resumes. Raises `Invalid`, `Conflict`."""
        problem = file_name_problem(request.name)
        if problem is not None:
            raise Invalid(problem, field="name")
        async with self._db.transaction() as session:
            attempt = await load_attempt(session, claims)
            upload = await UploadStore(session).of_output(_new_upload(attempt, request))
        store = await self._stores.open(upload.store_id)
        if upload.part_size is None:
            signed = await store.sign_put(upload.key, expires=URL_LIFETIME, size=upload.size, audience="worker")
            return UploadTicket(datum_id=upload.id, multipart=False, url=signed.url, headers=signed.headers)
        upload, parts = await self._in_parts(store, upload)
        uploaded = {part.number: part.etag for part in parts}
        wanted = [n for n in range(1, _parts_of(upload) + 1) if n not in uploaded][:PART_URLS_AT_ONCE]
        return UploadTicket(
            datum_id=upload.id,
            multipart=True,
            part_size=upload.part_size,
            part_urls=await _part_urls(store, upload, wanted),
            uploaded_parts=uploaded,
        )

    async def part_urls(self, claims: AttemptClaims, datum_id: UUID, numbers: Sequence[int]) -> PartUrls:
        """Signed URLs of parts of an upload in parts. Raises `NotFound`, `Invalid`, `Conflict`."""
        async with self._db.read() as session:
            attempt = await load_attempt(session, claims)
            upload = (await UploadStore(session).get([datum_id])).get(datum_id)
        if upload is None or upload.attempt_id != attempt.id or upload.upload_id is None:
            raise NotFound("This attempt has no such upload in parts. Ask for a new ticket.")
        last = _parts_of(upload)
        if any(not 1 <= number <= last for number in numbers):
            raise Invalid(f"The parts of this upload are numbered 1 to {last}.", field="numbers")
        return PartUrls(part_urls=await _part_urls(await self._stores.open(upload.store_id), upload, numbers))

    async def register(self, claims: AttemptClaims, request: OutputsRequest) -> OutputsAnswer:
        """Make datums of uploaded files, many at once, with their properties, tags and aliases.

        Raises `Conflict` when a file is not in its store with the size that was said: nothing is registered then.
        """
        async with self._db.read() as session:
            attempt = await load_attempt(session, claims)
            uploads = await UploadStore(session).get([file.datum_id for file in request.files])
        mine = {key: upload for key, upload in uploads.items() if upload.attempt_id == attempt.id}
        limit = asyncio.Semaphore(_STORE_CALLS_AT_ONCE)
        checks = [self._verify(limit, mine[file.datum_id], file) for file in request.files if file.datum_id in mine]
        # All are waited for: a completion that is cut off would have to be found out about later.
        for result in await asyncio.gather(*checks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        async with self._db.transaction() as session:
            attempt = await load_attempt(session, claims)
            warnings = await _register(session, attempt, mine, request)
            registered = await DatumStore(session).count_of_attempt(attempt.id)
        return OutputsAnswer(registered=registered, warnings=tuple(warnings))

    async def _in_parts(self, store: ObjectStore, upload: Upload) -> tuple[Upload, Sequence[UploadedPart]]:
        """The upload with the store's own id of it, and the parts that the store has.

        What the store has dropped (by a rule of the bucket, or by hand) is begun anew.
        """
        if upload.upload_id is not None:
            with suppress(NotFound):
                return upload, await store.list_parts(_multipart(upload))
        created = await store.create_multipart(upload.key)
        async with self._db.transaction() as session:
            kept = await UploadStore(session).set_upload_id(upload.id, created.upload_id, instead_of=upload.upload_id)
        if kept is None:
            raise Conflict(f"The upload of {upload.name} has ended. Ask for a new ticket.", code="upload_over")
        if kept.upload_id == created.upload_id:
            return kept, ()
        await store.abort_multipart(created)
        return kept, await store.list_parts(_multipart(kept))

    async def _verify(self, limit: asyncio.Semaphore, upload: Upload, file: OutputFile) -> None:
        async with limit:
            store = await self._stores.open(upload.store_id)
            info = await store.head(upload.key)
            found = "nothing" if info is None else f"{info.size} bytes"
            if info is None and upload.upload_id is not None:
                try:
                    info = await self._completed(store, upload, file)
                except Invalid as error:
                    found = error.message
            if info is None or info.size != upload.size or file.size != upload.size:
                raise Conflict(
                    f"The store has {found} of {upload.name}, which should have {upload.size}. Upload it again.",
                    code="upload_incomplete",
                    details={"datum_id": str(upload.id)},
                )

    async def _completed(self, store: ObjectStore, upload: Upload, file: OutputFile) -> ObjectInfo | None:
        """Have the store join the parts, once: it may take longer than the worker waits for one answer."""
        running = self._completing.get(upload.id)
        if running is None:
            parts = [UploadedPart(number=number, etag=etag) for number, etag in file.etags.items()]
            running = asyncio.create_task(_complete(store, upload, parts), name=f"complete-{upload.id}")
            self._completing[upload.id] = running
            running.add_done_callback(lambda done: self._forget(upload.id, done))
        return await asyncio.shield(running)

    def _forget(self, upload_id: UUID, done: "asyncio.Task[ObjectInfo | None]") -> None:
        self._completing.pop(upload_id, None)
        if not done.cancelled():
            done.exception()  # whoever waits has it; if nobody does, the next request asks anew


async def _complete(store: ObjectStore, upload: Upload, parts: Sequence[UploadedPart]) -> ObjectInfo | None:
    try:
        return await store.complete_multipart(_multipart(upload), parts)
    except NotFound:
        # The answer to an earlier completion was lost, or another process was faster.
        return await store.head(upload.key)


async def _register(
    session: AsyncSession, attempt: RunningAttempt, uploads: Mapping[UUID, Upload], request: OutputsRequest
) -> list[str]:
    datums, aliases, pending = DatumStore(session), AliasStore(session), UploadStore(session)
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    named: dict[str, UUID] = {}
    for file in request.files:
        upload = uploads.get(file.datum_id)
        if upload is None:
            continue
        reserved = read_reserved(upload.name, file.properties)
        warnings += reserved.warnings
        if reserved.alias is not None:
            named[reserved.alias] = upload.id
        rows.append(
            {
                **datum_row(upload, Checksums(file.md5, file.sha1, file.sha256)),
                "tags": reserved.tags,
                "properties": file.properties,
                "file_modified_at": file.modified_at,
            }
        )
    added = set(await datums.add(rows))
    known = await datums.lock([file.datum_id for file in request.files])
    for file in request.files:
        datum = known.get(file.datum_id)
        if datum is None or datum.output_execution is None or datum.output_execution.id != attempt.execution_id:
            raise Conflict(
                f"{file.name} has no upload of this attempt. Ask for a ticket first.",
                code="upload_over",
                details={"datum_id": str(file.datum_id)},
            )
    await pending.finish([row["id"] for row in rows])
    late = await datums.ids_by_name(attempt.id, list(request.properties))
    for name, properties in request.properties.items():
        if name not in late:
            warnings.append(f"{name}: properties were given, but there is no such output.")
            continue
        reserved = read_reserved(name, properties)
        warnings += reserved.warnings
        if reserved.alias is not None:
            named[reserved.alias] = late[name]
        datum = (await datums.lock([late[name]]))[late[name]]
        await datums.change(
            datum.id,
            properties={**datum.properties, **properties},
            tags=clean_tags([*datum.tags, *reserved.tags]),
        )
    for alias in sorted(named):
        if named[alias] in added or named[alias] in late.values():
            await aliases.put(attempt.project_id, alias, named[alias])
    return warnings


def _new_upload(attempt: RunningAttempt, request: UploadRequest) -> dict[str, Any]:
    datum_id = new_id()
    return {
        "id": datum_id,
        "project_id": attempt.project_id,
        "execution_id": attempt.execution_id,
        "attempt_id": attempt.id,
        "creator_id": attempt.creator_id,
        "store_id": attempt.spec.upload_store_id,
        "key": data_key(attempt.project_id, datum_id, request.name),
        "name": request.name,
        "size": request.size,
        "version": request.version,
        "part_size": part_size(request.size) if request.size >= MULTIPART_FROM else None,
    }


def _multipart(upload: Upload) -> MultipartUpload:
    return MultipartUpload(key=upload.key, upload_id=upload.upload_id or "")


def _parts_of(upload: Upload) -> int:
    return part_count(upload.size, upload.part_size or upload.size)


async def _part_urls(store: ObjectStore, upload: Upload, numbers: Sequence[int]) -> dict[int, str]:
    each = upload.part_size or upload.size
    urls = {}
    for number in numbers:
        signed = await store.sign_part(
            _multipart(upload),
            number,
            expires=URL_LIFETIME,
            size=part_bytes(upload.size, each, number),
            audience="worker",
        )
        urls[number] = signed.url
    return urls
