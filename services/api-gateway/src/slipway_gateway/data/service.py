"""Use cases of datums: list, read, download, purge, properties, tags."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from slipway_db import Database
from slipway_gateway.data.domain import URL_LIFETIME, Datum, clean_tags
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.store.datums import DatumFilter, DatumStore
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import Page, PageRequest
from slipway_kit.errors import Conflict, Invalid, NotFound
from slipway_storage import Audience

MAX_PROPERTIES_BYTES = 1024 * 1024


class DatumService:
    """Datums. It opens its own units of work, because it also talks to object stores."""

    def __init__(self, db: Database, stores: Stores) -> None:
        self._db = db
        self._stores = stores

    async def get(self, user: User, datum_id: UUID) -> Datum:
        """A datum that the user may see. Raises `NotFound`."""
        async with self._db.read() as session:
            return _found(await DatumStore(session).visible(user.id, datum_id))

    async def page(self, user: User, wanted: DatumFilter, request: PageRequest) -> Page[Datum]:
        """Datums that the user may see."""
        async with self._db.read() as session:
            return await DatumStore(session).page(user.id, wanted, request)

    async def outputs_of(self, execution_id: UUID) -> list[Datum]:
        """Outputs of an execution that the caller was shown already."""
        async with self._db.read() as session:
            return await DatumStore(session).outputs_of(execution_id)

    async def download_url(self, user: User, datum_id: UUID) -> str:
        """A signed URL of the bytes, to be saved under the file's name. Raises `NotFound`, `Conflict`."""
        return await self.signed_url(await self.get(user, datum_id))

    async def signed_url(self, datum: Datum, audience: Audience = "public") -> str:
        """A signed URL of the bytes, for 15 minutes. Raises `Conflict` when they were purged."""
        if datum.purged_at is not None:
            raise Conflict(f"The bytes of {datum.name} were purged; only its record is left.", code="purged")
        store = await self._stores.open(datum.store_id)
        return await store.sign_get(datum.key, expires=URL_LIFETIME, filename=datum.filename, audience=audience)

    async def purge(self, user: User, datum_id: UUID) -> Datum:
        """Delete the bytes and keep the record. Purging again changes nothing. Raises `NotFound`."""
        async with self._db.transaction() as session:
            datum = _found(await DatumStore(session).visible(user.id, datum_id))
            await DatumStore(session).mark_purged(datum.id)
        # Repeated on a second purge: the first may have marked the row and then lost the store.
        await (await self._stores.open(datum.store_id)).delete(datum.key)
        return await self.get(user, datum_id)

    async def merge_properties(self, user: User, datum_id: UUID, properties: Mapping[str, Any]) -> Datum:
        """Add properties; a given key replaces the one that is there. Raises `NotFound`, `Invalid`."""
        async with self._db.transaction() as session:
            datum = await self._locked(DatumStore(session), user, datum_id)
            merged = {**datum.properties, **properties}
            if len(str(merged)) > MAX_PROPERTIES_BYTES:
                raise Invalid(f"The properties of a file have at most {MAX_PROPERTIES_BYTES} characters.")
            await DatumStore(session).change(datum.id, properties=merged, tags=datum.tags)
        return await self.get(user, datum_id)

    async def set_tags(self, user: User, datum_id: UUID, tags: Sequence[str], *, keep: bool) -> Datum:
        """Replace the tags, or add to them with `keep`. Raises `NotFound`, `Invalid`."""
        async with self._db.transaction() as session:
            datum = await self._locked(DatumStore(session), user, datum_id)
            try:
                wanted = clean_tags([*datum.tags, *tags] if keep else tags)
            except ValueError as error:
                raise Invalid(str(error), field="tags") from error
            await DatumStore(session).change(datum.id, properties=datum.properties, tags=wanted)
        return await self.get(user, datum_id)

    @staticmethod
    async def _locked(store: DatumStore, user: User, datum_id: UUID) -> Datum:
        datum = _found(await store.visible(user.id, datum_id))
        return (await store.lock([datum.id]))[datum.id]


def _found(datum: Datum | None) -> Datum:
    if datum is None:
        raise NotFound("This file does not exist, or you may not see it.")
    return datum
