"""Use cases of connected stores."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database
from slipway_gateway.data.domain import BUILT_IN_STORE_ID, ConnectedStore
from slipway_gateway.data.opening import SECRET_FIELDS, Stores, secret_place
from slipway_gateway.data.store.stores import StoreStore
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import Page, PageRequest
from slipway_gateway.projects.store import ProjectStore
from slipway_kit.errors import Invalid, NotFound, SlipwayError
from slipway_kit.ids import new_id
from slipway_kit.vault import Vault

_TEST_SECONDS = 15.0
_TEST_KEY = "slipway-connection-test"


class StoreService:
    """Connected stores. A configuration is tried out before it is kept."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault

    async def page(self, user: User, project_id: UUID | None, request: PageRequest) -> Page[ConnectedStore]:
        """Stores that the user may see."""
        async with self._db.read() as session:
            return await StoreStore(session).page(user.id, project_id, request)

    async def get(self, user: User, store_id: UUID) -> ConnectedStore:
        """One store. Raises `NotFound`."""
        async with self._db.read() as session:
            found = await StoreStore(session).visible(user.id, store_id)
        if found is None:
            raise NotFound("This store does not exist, or you may not see it.")
        return found

    async def create(
        self, user: User, owner_id: int, project_id: UUID | None, values: Mapping[str, Any], given: Mapping[str, Any]
    ) -> ConnectedStore:
        """Connect a store. `given` is its configuration with the credentials. Raises `Invalid`, `NotFound`."""
        if project_id is not None:
            async with self._db.read() as session:
                project = await ProjectStore(session).visible(user.id, project_id)
            if project is None:
                raise Invalid("This project does not exist for you.", field="project", code="does_not_exist")
            owner_id = project.owner_id
        store_id = new_id()
        configuration, secrets = _split(given)
        await _try_out(configuration, secrets, writes=bool(values.get("allow_write", True)))
        row = {
            **values,
            "id": store_id,
            "owner_id": owner_id,
            "project_id": project_id,
            "configuration": configuration,
            "secret_envelope": self._vault.encrypt(json.dumps(secrets), secret_place(store_id)),
        }
        async with self._db.transaction() as session:
            await StoreStore(session).add(row)
        return await self.get(user, store_id)

    async def update(
        self, user: User, store_id: UUID, values: Mapping[str, Any], given: Mapping[str, Any] | None
    ) -> ConnectedStore:
        """Change a store; credentials that are not given again stay. Raises `Invalid`, `NotFound`."""
        store = await self.get(user, store_id)
        changes = dict(values)
        if given is not None:
            async with self._db.read() as session:
                sealed = await StoreStore(session).sealed(store_id)
            kept = json.loads(self._vault.decrypt(sealed[1], secret_place(store_id))) if sealed else {}
            filled = {**store.configuration, **kept, **{key: one for key, one in given.items() if one is not None}}
            configuration, secrets = _split(filled)
            await _try_out(configuration, secrets, writes=bool(changes.get("allow_write", store.allow_write)))
            changes["configuration"] = configuration
            changes["secret_envelope"] = self._vault.encrypt(json.dumps(secrets), secret_place(store_id))
        async with self._db.transaction() as session:
            await StoreStore(session).change(store_id, changes)
        return await self.get(user, store_id)

    async def delete(self, user: User, store_id: UUID, now: Any) -> None:
        """Disconnect a store. Its bytes stay where they are, and datums in it can still be read."""
        store = await self.get(user, store_id)
        async with self._db.transaction() as session:
            await StoreStore(session).change(store.id, {"deleted_at": now})


async def usable_store(session: AsyncSession, user: User, store_id: UUID) -> UUID | None:
    """The row's id of a store that the user may see; None for the installation's own. Raises `NotFound`."""
    if store_id == BUILT_IN_STORE_ID:
        return None
    if await StoreStore(session).visible(user.id, store_id) is None:
        raise NotFound(f"The store {store_id} does not exist, or you may not see it.")
    return store_id


def _split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    missing = [key for key in ("bucket", *SECRET_FIELDS) if not given.get(key)]
    if missing:
        raise Invalid(f"The configuration lacks {', '.join(missing)}.", field="configuration", code="required")
    configuration = {key: one for key, one in given.items() if key not in SECRET_FIELDS and one is not None}
    return configuration, {key: str(given[key]) for key in SECRET_FIELDS}


async def _try_out(configuration: dict[str, Any], secrets: dict[str, str], *, writes: bool) -> None:
    """Write, list and delete one small object (or only list). Raises `Invalid` with what the store said."""
    if configuration.pop("test_configuration", True) is False:
        return
    try:
        store = Stores.connect(configuration, secrets)
    except ValidationError as error:
        message = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Invalid(f"The configuration cannot be used: {message}.", field="configuration") from None
    try:
        async with asyncio.timeout(_TEST_SECONDS):
            if writes:
                await store.put(_TEST_KEY, b"Slipway was here to test the connection.")
                await store.delete(_TEST_KEY)
            else:
                await store.head(_TEST_KEY)
    except TimeoutError:
        raise Invalid(
            f"The store did not answer within {_TEST_SECONDS:.0f} s. Check endpoint_url and the network.",
            field="configuration",
        ) from None
    except SlipwayError as error:
        raise Invalid(
            f"The store refused the test: {error}. Check bucket, region and credentials.", field="configuration"
        ) from error
    finally:
        await store.close()
