"""The services of data that live as long as the process."""

from dataclasses import dataclass
from typing import Self

from slipway_db import Database
from slipway_gateway.data.attempts import AttemptOutputs
from slipway_gateway.data.opening import Stores
from slipway_gateway.data.service import DatumService
from slipway_gateway.data.stores import StoreService
from slipway_gateway.data.uploads import UploadService
from slipway_kit.vault import Vault
from slipway_storage import ObjectStore


@dataclass(frozen=True)
class DataServices:
    """They open units of work of their own, because they also talk to object stores."""

    stores: Stores
    connected: StoreService
    datums: DatumService
    uploads: UploadService
    outputs: AttemptOutputs

    @classmethod
    def build(cls, db: Database, vault: Vault, built_in: ObjectStore) -> Self:
        """All of them, on one database and the installation's own store."""
        stores = Stores(db, vault, built_in)
        datums = DatumService(db, stores)
        return cls(
            stores=stores,
            connected=StoreService(db, vault),
            datums=datums,
            uploads=UploadService(db, stores, datums),
            outputs=AttemptOutputs(db, stores),
        )
