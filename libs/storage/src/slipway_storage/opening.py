"""From a configuration to a store."""

from typing import assert_never

from slipway_kit.clock import Clock, SystemClock
from slipway_storage.config import LocalStoreConfig, MemoryStoreConfig, S3StoreConfig, StoreConfig
from slipway_storage.local.store import LocalStore
from slipway_storage.memory import MemoryStore
from slipway_storage.s3.store import S3Store
from slipway_storage.store import ObjectStore


def open_store(config: StoreConfig, *, clock: Clock | None = None) -> ObjectStore:
    """The store of a configuration. No request is made; close it with `close()`."""
    clock = clock or SystemClock()
    match config:
        case LocalStoreConfig():
            return LocalStore(config, clock=clock)
        case S3StoreConfig():
            return S3Store(config, clock=clock)
        case MemoryStoreConfig():
            return MemoryStore(clock=clock)
        case _:
            assert_never(config)
