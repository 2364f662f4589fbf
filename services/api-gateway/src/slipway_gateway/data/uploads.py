"""Use cases of uploads by people: a signed PUT that is completed, or one streamed form."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any
from uuid import UUID

from slipway_db import Database
from slipway_gateway.data.domain import (
    URL_LIFETIME,
    Checksums,
    Datum,
    Upload,
    clean_tags,
)
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.service import DatumService
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.data.store.uploads import UploadStore
from slipway_gateway.identity.domain import User
from slipway_gateway.projects.store import ProjectStore
from slipway_kit.errors import Conflict, Invalid, NotFound, TooLarge
from slipway_kit.ids import new_id
from slipway_schemas.attempts import file_name_problem
from slipway_storage import SignedPut
from slipway_storage.checksums import BackgroundHash
from slipway_storage.keys import data_key

MAX_SINGLE_PUT = 5 * 1024**3
"""S3's limit for one PUT."""


class UploadService:
    """Uploads by people. The checksums are computed here, from the bytes that the store has."""

    def __init__(self, db: Database, stores: Stores, datums: DatumService) -> None:
        self._db = db
        self._stores = stores
        self._datums = datums

    async def begin(self, user: User, project_id: UUID, name: str, size: int) -> tuple[Upload, SignedPut]:
        """Where to PUT a file. Raises `Invalid`, `TooLarge`."""
        if size > MAX_SINGLE_PUT:
            raise TooLarge(f"One upload has at most {MAX_SINGLE_PUT} bytes. Split the file, or write it in a run.")
        upload = await self._begin(user, project_id, name, size)
        store = await self._stores.open(upload.store_id)
        return upload, await store.sign_put(upload.key, expires=URL_LIFETIME, size=size)

    async def complete(
        self, user: User, upload_id: UUID, *, tags: tuple[str, ...] = (), properties: Mapping[str, Any] | None = None
    ) -> Datum:
        """Make a datum of a file that was PUT. Doing it again gives the same. Raises `NotFound`, `Conflict`."""
        async with self._db.read() as session:
            upload = (await UploadStore(session).get([upload_id])).get(upload_id)
            done = await DatumStore(session).visible(user.id, upload_id)
        if done is not None:
            return done
        if upload is None or upload.creator_id != user.id:
            raise NotFound("This upload does not exist, or is not yours.")
        store = await self._stores.open(upload.store_id)
        info = await store.head(upload.key)
        if info is None or info.size != upload.size:
            found = "nothing" if info is None else f"{info.size} bytes"
            raise Conflict(
                f"The store has {found} of the {upload.size} bytes of {upload.name}. PUT all of it first.",
                code="upload_incomplete",
            )
        checksums = await _checksums(store.stream(upload.key))
        return await self._register(user, upload, checksums, tags, properties or {})

    async def receive(
        self, user: User, project_id: UUID, name: str, size: int, chunks: AsyncIterable[bytes], tags: tuple[str, ...]
    ) -> Datum:
        """Take the bytes of a file from the request itself. Raises `Invalid`."""
        _checked_tags(tags)
        upload = await self._begin(user, project_id, name, size)
        store = await self._stores.open(upload.store_id)
        async with BackgroundHash(("md5", "sha1", "sha256")) as hashing:

            async def hashed() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    await hashing.update(chunk)
                    yield chunk

            await store.put(upload.key, hashed())
            digests = await hashing.digests()
        checksums = Checksums(digests["md5"], digests["sha1"], digests["sha256"])
        return await self._register(user, upload, checksums, tags, {})

    async def _begin(self, user: User, project_id: UUID, name: str, size: int) -> Upload:
        problem = file_name_problem(name)
        if problem is not None:
            raise Invalid(problem, field="name")
        async with self._db.transaction() as session:
            project = await ProjectStore(session).visible(user.id, project_id)
            if project is None:
                raise Invalid("This project does not exist for you.", field="project", code="does_not_exist")
            upload_id = new_id()
            return await UploadStore(session).add(
                {
                    "id": upload_id,
                    "project_id": project.id,
                    "creator_id": user.id,
                    "store_id": project.upload_store_id,
                    "key": data_key(project.id, upload_id, name),
                    "name": name,
                    "size": size,
                }
            )

    async def _register(
        self, user: User, upload: Upload, checksums: Checksums, tags: tuple[str, ...], properties: Mapping[str, Any]
    ) -> Datum:
        row = {**datum_row(upload, checksums), "tags": list(_checked_tags(tags)), "properties": dict(properties)}
        async with self._db.transaction() as session:
            await DatumStore(session).add([row])
            await UploadStore(session).finish([upload.id])
        return await self._datums.get(user, upload.id)


def datum_row(upload: Upload, checksums: Checksums) -> dict[str, Any]:
    """Columns of the datum that an upload becomes."""
    return {
        "id": upload.id,
        "project_id": upload.project_id,
        "name": upload.name,
        "size": upload.size,
        "md5": checksums.md5,
        "sha1": checksums.sha1,
        "sha256": checksums.sha256,
        "store_id": upload.store_id,
        "key": upload.key,
        "output_execution_id": upload.execution_id,
        "output_attempt_id": upload.attempt_id,
        "creator_id": upload.creator_id,
    }


async def _checksums(chunks: AsyncIterable[bytes]) -> Checksums:
    async with BackgroundHash(("md5", "sha1", "sha256")) as hashing:
        async for chunk in chunks:
            await hashing.update(chunk)
        digests = await hashing.digests()
    return Checksums(digests["md5"], digests["sha1"], digests["sha256"])


def _checked_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return clean_tags(tags)
    except ValueError as error:
        raise Invalid(str(error), field="tags") from error
