"""Opens connected stores and keeps them open while their configuration stays the same."""

import json
from uuid import UUID

from pydantic import SecretStr

from slipway_db import Database
from slipway_gateway.data.domain import ConnectedStore
from slipway_gateway.data.store.stores import StoreStore
from slipway_kit.errors import NotFound
from slipway_kit.vault import Vault
from slipway_storage import ObjectStore, open_store
from slipway_storage.config import S3StoreConfig

SECRET_FIELDS = ("access_key_id", "secret_access_key")
"""Fields of a configuration that are kept encrypted and never shown."""


def secret_place(store_id: UUID) -> tuple[str, ...]:
    """Where the credentials of a store belong, for the vault."""
    return ("store", str(store_id))


class Stores:
    """The object stores of this process. No store is opened inside a unit of work."""

    def __init__(self, db: Database, vault: Vault, built_in: ObjectStore) -> None:
        self._db = db
        self._vault = vault
        self._built_in = built_in
        self._open: dict[UUID, tuple[ConnectedStore, ObjectStore]] = {}

    async def open(self, store_id: UUID | None) -> ObjectStore:
        """The store of this id; None is the installation's own. Raises `NotFound`."""
        if store_id is None:
            return self._built_in
        async with self._db.read() as session:
            found = await StoreStore(session).sealed(store_id)
        if found is None:
            raise NotFound("The store of this file does not exist any more.")
        connected, envelope = found
        known = self._open.get(store_id)
        if known is not None and known[0].updated_at == connected.updated_at:
            return known[1]
        secrets = json.loads(self._vault.decrypt(envelope, secret_place(store_id)))
        opened = self.connect(connected.configuration, secrets)
        self._open[store_id] = (connected, opened)
        if known is not None:
            await known[1].close()
        return opened

    @staticmethod
    def connect(configuration: dict[str, str], secrets: dict[str, str]) -> ObjectStore:
        """A client of an S3-compatible store. Nothing is sent yet."""
        return open_store(
            S3StoreConfig(
                bucket=configuration["bucket"],
                region=configuration.get("region") or "us-east-1",
                endpoint_url=configuration.get("endpoint_url") or None,
                public_endpoint_url=configuration.get("public_endpoint_url") or None,
                worker_endpoint_url=configuration.get("worker_endpoint_url") or None,
                access_key_id=SecretStr(secrets["access_key_id"]),
                secret_access_key=SecretStr(secrets["secret_access_key"]),
            )
        )

    async def close(self) -> None:
        """Close what was opened; the installation's own store belongs to the context."""
        for _, store in self._open.values():
            await store.close()
        self._open.clear()
